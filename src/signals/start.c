/* SPDX-License-Identifier: MIT */
/*
 * The start: which signals are taken, and SIGTRAP's handler set. Before all constructors, or by the
 * first call that comes before even that.
 */
#include <elf.h>
#include <link.h>
#include <linux/membarrier.h>
#include <sched.h>

#include "linux/base/syscall.h"
#include "signals/signals.h"

int __libc_allocate_rtsig(int high); /* glibc's, for such as us; not in its headers */

/* The environment, before the C library knows it; NULL: not told. */
static char **environment;

/* Not by the C library: a sanitizer's strcmp() would start the sanitizer, which comes here. */
static bool is_variable(const char *variable, const char *wanted)
{
	while (*wanted && *variable == *wanted) {
		variable++;
		wanted++;
	}
	return *variable == *wanted;
}

static bool is_set(const char *wanted)
{
	char **v = environment;

	while (v && *v && !is_variable(*v, wanted))
		v++;
	return v && *v;
}

/* As secure_getenv() has it; the kernel's notes are behind the environment. */
static bool is_secure(void)
{
	const ElfW(auxv_t) * note;
	char **v = environment;

	while (v && *v)
		v++;
	for (note = (const void *)(v ? v + 1 : NULL); note && note->a_type != AT_NULL; note++)
		if (note->a_type == AT_SECURE)
			return note->a_un.a_val != 0;
	return false;
}

/*
 * libshunt makes its core sync by the highest signal that has the default action. Where it
 * will have to, from the start on, that is to be one which no thread blocks and no
 * handler is set for. It is for libshunt to find; nothing is agreed between the two.
 */
static bool needs_sync_signal(void)
{
	long commands = shunt_syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0, 0);

	if (is_set("SHUNT_SYNC=signal") && !is_secure())
		return true;
	if (is_set("SHUNT_SYNC=membarrier") && !is_secure())
		return false;
	return commands < 0 || !(commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
}

static void choose_signals(void)
{
	int first = __libc_allocate_rtsig(0), sync = 0;

	if (needs_sync_signal())
		sync = __libc_allocate_rtsig(0);
	shunt_mirror_set(first, sync);
}

/* All signals are blocked meanwhile. A SIGTRAP that was blocked by our parent stays so. */
static void start(void)
{
	static _Atomic bool begun;
	uint64_t mask = shunt_mask_raw(SIG_BLOCK, ~0ul);

	if (!atomic_exchange(&begun, true)) {
		shunt_next_init();
		shunt_trap_claim_process();
		choose_signals();
		shunt_trap_adopt();
		shunt_trap_watch_processes(); /* last: it may allocate, and whoever does that come
						 here */
		mask = mask & shunt_bit(SIGTRAP) ? shunt_mask_in(mask) : mask;
		mask &= ~shunt_sync_bit();
	}
	while (!shunt_mirror())
		(void)sched_yield();
	(void)shunt_mask_raw(SIG_SETMASK, mask);
}

void shunt_signals_start(void)
{
	if (!shunt_mirror())
		start();
}

/* Before all constructors, libshunt's among them, which may poke: the library has -z initfirst. */
#ifdef SHUNT_SIGNALS_SHARED
#define FIRST ".init_array"
#else
#define FIRST ".preinit_array"
#endif

static void start_first(int argc, char **argv, char **env)
{
	(void)argc;
	(void)argv;
	environment = env;
	shunt_signals_start();
}

__attribute__((section(FIRST), used)) static void (*const first)(int, char **,
								 char **) = start_first;
