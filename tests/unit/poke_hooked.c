/* SPDX-License-Identifier: MIT */
/*
 * core/poke*.c and core/trap.c with a hook before each of its atomic loads, so that a test can let
 * the world go on between any two of them: the races of the trap path become
 * deterministic. To read an atomic object plainly is a sequentially consistent
 * load, so nothing else changes. And with parts that can be taken out.
 */
#include <stdatomic.h>
#include <stdbool.h>

#include <shunt/port.h>

#include "poke_hooked.h"

void (*poke_before_load)(const volatile void *object);

static void before_load(const volatile void *object)
{
	if (poke_before_load)
		poke_before_load(object);
}

/* ------------------------------------------------------------ what is taken out */

unsigned poke_without;
static bool has_failed; /* since the batch was begun */

static int note(int ret)
{
	has_failed = has_failed || ret < 0;
	return ret;
}

static bool is_gone(void)
{
	return has_failed && (poke_without & WITHOUT_WAY_BACK);
}

static int hooked_begin(size_t n, bool flips, unsigned tried)
{
	has_failed = false;
	return shunt_port_poke_begin(n, flips, tried);
}

static int hooked_write(const struct shunt_write *writes, size_t n)
{
	return is_gone() ? 0 : note(shunt_port_text_write(writes, n));
}

static int hooked_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	return is_gone() ? 0 : note(shunt_port_text_remap(writes, n, stride));
}

static int hooked_sync(void)
{
	return poke_without & WITHOUT_SYNC ? 0 : note(shunt_port_core_sync());
}

#define shunt_port_poke_begin hooked_begin
#define shunt_port_text_write hooked_write
#define shunt_port_text_remap hooked_remap
#define shunt_port_core_sync  hooked_sync

#undef atomic_load_explicit
#define atomic_load_explicit(object, order) (before_load(object), (void)(order), *(object))

/* As part of this file, or the macro would not reach it. */
#include "core/poke.c"       /* NOLINT(bugprone-suspicious-include) */
#include "core/poke_flip.c"  /* NOLINT(bugprone-suspicious-include) */
#include "core/poke_int3.c"  /* NOLINT(bugprone-suspicious-include) */
#include "core/poke_remap.c" /* NOLINT(bugprone-suspicious-include) */
#include "core/poke_write.c" /* NOLINT(bugprone-suspicious-include) */
#include "core/trap.c"       /* NOLINT(bugprone-suspicious-include) */
