/* SPDX-License-Identifier: MIT */
/*
 * Runs a test in each phase of an update (phase.h).
 *
 * An update of few sites is three writes with a core sync behind each: the int3,
 * the tails, the first bytes. Between the second sync and the third write is the
 * commit. A site of which one byte changes gets an int3 all the same; where that is so of all, an
 * update has no tails.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "phase.h"
#include "tap.h"

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
struct shunt_poke;
bool __real_shunt_poke_is_flip(const struct shunt_poke *p);
bool __wrap_shunt_poke_is_flip(const struct shunt_poke *p);

static struct {
	void (*fn)(enum phase phase);
	enum phase_thread thread;
	bool armed; /* an update of phase_update() is running */
	bool tails; /* of its sites more than the first byte changes */
	unsigned writes, syncs;
	unsigned seen; /* bit mask of phases */
} state;

/* The helper thread and its orders. */
static struct {
	pthread_t thread;
	sem_t go, done;
	enum phase phase;
	bool stop;
} helper;

/* ---------------------------------------------------------------- the phases */

const char *phase_name(enum phase phase)
{
	static const char *const names[] = {"before the update", "int3 written",
					    "int3 synchronised", "tails synchronised",
					    "committed",         "first bytes written",
					    "after the update",  "(none)"};

	return names[phase];
}

bool phase_is_new(enum phase phase)
{
	return phase >= PHASE_COMMITTED;
}

bool phase_traps(enum phase phase)
{
	return phase == PHASE_SYNCED || phase == PHASE_TAILS || phase == PHASE_COMMITTED;
}

uint64_t phase_count_traps(void)
{
	struct shunt_stats stats;

	shunt_get_stats(&stats);
	return stats.traps;
}

bool phase_check_traps(enum phase phase, uint64_t traps, uint64_t executions, const char *what)
{
	bool unsure = phase == PHASE_INT3 || phase == PHASE_WRITTEN;
	uint64_t expected = phase_traps(phase) ? executions : 0;

	return tap_check(unsure ? traps <= executions : traps == expected,
			 "%s, %s: %llu traps, %llu executions of a site", what, phase_name(phase),
			 (unsigned long long)traps, (unsigned long long)executions);
}

static bool is_helper(void)
{
	return state.thread == PHASE_HELPER || state.thread == PHASE_HELPER_ALT;
}

static void enter(enum phase phase)
{
	state.seen |= 1u << phase;
	if (!is_helper()) {
		state.fn(phase);
		return;
	}
	helper.phase = phase;
	(void)sem_post(&helper.go);
	while (sem_wait(&helper.done))
		;
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	if (state.armed && ++state.writes == (state.tails ? 3 : 2))
		enter(PHASE_COMMITTED);
	return __real_shunt_port_text_write(writes, n);
}

int __wrap_shunt_port_core_sync(void)
{
	static const enum phase before[] = {PHASE_INT3, PHASE_COUNT, PHASE_WRITTEN};
	static const enum phase after[] = {PHASE_SYNCED, PHASE_TAILS, PHASE_COUNT};
	unsigned i = state.syncs;
	int ret;

	if (!state.armed || i >= 3)
		return __real_shunt_port_core_sync();
	state.syncs += i || state.tails ? 1 : 2;
	if (before[i] != PHASE_COUNT)
		enter(before[i]);
	ret = __real_shunt_port_core_sync();
	if (!ret && after[i] != PHASE_COUNT)
		enter(after[i]);
	if (!ret && !i && !state.tails)
		enter(PHASE_TAILS);
	return ret;
}

/* Asked of each site of an update, before its first write. */
bool __wrap_shunt_poke_is_flip(const struct shunt_poke *p)
{
	state.tails = state.tails || !__real_shunt_poke_is_flip(p);
	return false;
}

void phase_update(int (*update)(int arg), int arg)
{
	int ret;

	state.writes = state.syncs = 0;
	state.seen = 0;
	state.tails = false;
	enter(PHASE_BEFORE);
	state.armed = true;
	ret = update(arg);
	state.armed = false;
	tap_check(!ret, "static_call_update: %d (%s)", ret, shunt_last_error());
	enter(PHASE_AFTER);
	tap_check(state.seen == (1u << PHASE_COUNT) - 1, "phases 0x%x of the update were not met",
		  ((1u << PHASE_COUNT) - 1) & ~state.seen);
}

/* --------------------------------------------------------------- the threads */

const char *phase_thread_name(enum phase_thread thread)
{
	static const char *const names[] = {"own thread", "own thread, alternate stack",
					    "other thread", "other thread, alternate stack"};

	return names[thread];
}

/*
 * Room for the frame of a CPU with AMX. One is enough: only one thread at a time
 * is told to trap.
 */
static _Alignas(64) char alternate[64 * 1024];
static stack_t saved_stack;

/* A sanitizer gives each thread an alternate stack: take it away, or put ours there. */
static void set_stack(void)
{
	bool alt = state.thread == PHASE_HERE_ALT || state.thread == PHASE_HELPER_ALT;
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};

	if (!alt)
		stack.ss_flags = SS_DISABLE;
	tap_check(!sigaltstack(&stack, &saved_stack), "sigaltstack");
}

/* The sanitizer unmaps the stack that it finds at the thread's end. */
static void reset_stack(void)
{
	tap_check(!sigaltstack(&saved_stack, NULL), "sigaltstack");
}

static void *help(void *arg)
{
	set_stack();
	for (;;) {
		while (sem_wait(&helper.go))
			;
		if (helper.stop)
			break;
		state.fn(helper.phase);
		(void)sem_post(&helper.done);
	}
	reset_stack();
	return arg;
}

void phase_begin(enum phase_thread thread, void (*fn)(enum phase phase))
{
	state.fn = fn;
	state.thread = thread;
	if (!is_helper()) {
		set_stack();
		return;
	}
	helper.stop = false;
	if (sem_init(&helper.go, 0, 0) || sem_init(&helper.done, 0, 0) ||
	    pthread_create(&helper.thread, NULL, help, NULL))
		abort();
}

void phase_end(void)
{
	if (!is_helper()) {
		reset_stack();
		return;
	}
	helper.stop = true;
	(void)sem_post(&helper.go);
	(void)pthread_join(helper.thread, NULL);
	(void)sem_destroy(&helper.go);
	(void)sem_destroy(&helper.done);
}
