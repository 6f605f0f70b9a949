/* SPDX-License-Identifier: MIT */
/*
 * core/poke.c with a hook before each of its atomic loads, so that a test can let
 * the world go on between any two of them: the races of the trap path become
 * deterministic. To read an atomic object plainly is a sequentially consistent
 * load, so nothing else changes.
 */
#include <stdatomic.h>

#include "poke_hooked.h"

void (*poke_before_load)(const volatile void *object);

static void before_load(const volatile void *object)
{
	if (poke_before_load)
		poke_before_load(object);
}

#undef atomic_load_explicit
#define atomic_load_explicit(object, order) (before_load(object), (void)(order), *(object))

/* As part of this file, or the macro would not reach it. */
#include "core/poke.c" /* NOLINT(bugprone-suspicious-include) */
