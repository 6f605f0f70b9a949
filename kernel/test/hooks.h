/* SPDX-License-Identifier: MIT */
/*
 * What tests may do to the port: look on while it pokes, and leave something out, as a negative
 * control. The port knows nothing of it: the linker leads its calls, and the core's calls of it,
 * through wrappers (hooks.c; --wrap in meson.build).
 */
#ifndef KERNEL_TEST_HOOKS_H
#define KERNEL_TEST_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include <shunt/port.h>

#include "trap.h"

/* Set while no update runs. All false, 0 and NULL at boot. */
struct test_hooks {
	/* Write byte by byte, and let other CPUs run (pause) behind each. */
	bool stepwise;
	/* Write by xchg (locked.h). */
	bool locked;
	/* Leave out: the int3 of a poke; its core sync of this number (1 to 3; 0: none). */
	bool no_int3;
	unsigned no_sync;
	/* Core syncs do nothing but say that they have been. */
	bool no_ipi;
	/* Interrupts keep the guard of what they interrupt (cpu_context_begin(), cpus.h). */
	bool one_guard;
	/* A #BP whose rip is the first is taken for one whose rip is the second, if not 0. */
	uintptr_t late_from, late_to;
	/* Say to the port that more than the first byte changes, so that it goes by int3; or that
	 * nothing else does. */
	bool no_flips, flips_always;
	/* A flip's second byte is another for as long as the first is written. */
	bool flip_two;
	/* Told, of the last batch: the first byte alone changes at each site; which way it went. */
	bool flips;
	enum shunt_way way;
	/* Called behind core sync number @nr of a poke, on the updater's CPU. */
	void (*on_sync)(unsigned nr);
};
extern struct test_hooks test_hooks;

/* Traps of all CPUs since boot, by enum shunt_trap. */
struct test_traps {
	uint64_t foreign, emulated, late;
	uint64_t stray; /* taken when no poke was going on: cannot be behind the last sync */
};
struct test_traps test_traps(void);

/* Batches since boot that were poked by @way. */
uint64_t test_pokes(enum shunt_way way);

/*
 * Entries of #BP (entries.S) for idt_set(VEC_BP, ..., 0): the kernel's without the gap; without a
 * look at the shadow stack; with locked reads (locked.c); and one whose frame the function
 * test_spoil() changes at the end.
 */
void test_entry_no_gap(void);
void test_entry_no_shadow(void);
void test_entry_locked(void);
void test_entry_spoiled(void);

/* What test_entry_spoiled does to the frame that resumes; @before: as it was in the trap. */
extern void (*test_spoil)(struct trapframe *frame, const struct trapframe *before);

#endif
