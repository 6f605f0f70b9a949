/* SPDX-License-Identifier: MIT */
/* What the wrappers of hooks.c do, and what they have counted. */
#ifndef SHUNT_TESTS_KEYS_HOOKS_H
#define SHUNT_TESTS_KEYS_HOOKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

struct hooks {
	/* Set by the updater's thread. */
	unsigned step;    /* writes and syncs of this poke so far: 0 at its start */
	unsigned hold_at; /* after which of them to wait for a hammering thread; 0: none */
	unsigned fail_write, fail_sync; /* the how manyth of them fails; 0: none */
	unsigned seen_writes, seen_syncs;
	bool drop_int3, drop_rest; /* negative controls: leave out what should be written */
	_Atomic bool keep;         /* traps stay in the handler until hooks.poke changes */
	_Atomic uint64_t poke;     /* the updater's number of the poke */
	/* Set by the hammering threads: how many sites each has evaluated. */
	_Atomic uint64_t passed[2];
	/* Counted. */
	uint64_t writes, syncs, injected;
	_Atomic uint64_t held, missed, kept;
	_Atomic uint64_t traps[3]; /* by enum shunt_trap */
};

extern struct hooks hooks;

/* Wait until @done says so, a fraction of a second at most; counts it if not. */
bool hooks_wait(bool (*done)(void *arg), void *arg);

#endif
