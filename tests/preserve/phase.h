/* SPDX-License-Identifier: MIT */
/*
 * Stops an update in each of its phases and runs the test there, so that a site
 * is executed with certainty while an int3 stands in it: no sleeping, no luck.
 *
 * The linker puts phase.c between the poke protocol and the port
 * (-Wl,--wrap=shunt_port_text_write, -Wl,--wrap=shunt_port_core_sync).
 */
#ifndef TESTS_PRESERVE_PHASE_H
#define TESTS_PRESERVE_PHASE_H

#include <stdbool.h>
#include <stdint.h>

#include <shunt/static_call.h>

enum phase {
	PHASE_BEFORE,    /* the update has not begun */
	PHASE_INT3,      /* the int3 are written, but the cores are not synchronised yet */
	PHASE_SYNCED,    /* now they are */
	PHASE_TAILS,     /* the tails are new and synchronised; not committed yet */
	PHASE_COMMITTED, /* the key has its new target; the int3 still stand */
	PHASE_WRITTEN,   /* the first bytes are new, but not synchronised yet */
	PHASE_AFTER,     /* the update has returned */
	PHASE_COUNT,
};

const char *phase_name(enum phase phase);

/* Whether a site calls the new target, and whether it certainly traps. */
bool phase_is_new(enum phase phase);
bool phase_traps(enum phase phase);

/* The traps taken since the start of the process, late ones included. */
uint64_t phase_count_traps(void);

/*
 * Check that @traps is what @executions of a site may take in @phase: one each, none,
 * or, while another core may still have the old bytes, either. Returns that too.
 */
bool phase_check_traps(enum phase phase, uint64_t traps, uint64_t executions, const char *what);

/* Where phase_update() runs the test's code. */
enum phase_thread {
	PHASE_HERE,     /* on the updater's own thread */
	PHASE_HERE_ALT, /* ... which has an alternate signal stack */
	PHASE_HELPER,   /* on another thread, while the updater waits */
	PHASE_HELPER_ALT,
	PHASE_THREADS,
};

const char *phase_thread_name(enum phase_thread thread);

/* From here to phase_end(), run @fn on the given thread in each phase of each update. */
void phase_begin(enum phase_thread thread, void (*fn)(enum phase phase));
void phase_end(void);

/*
 * Update @key by @update(), which calls static_call_update() for @arg once, and
 * run the test in each phase. Checks that it succeeds and goes through them all.
 */
void phase_update(int (*update)(int arg), int arg);

#endif
