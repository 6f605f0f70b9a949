/* SPDX-License-Identifier: MIT */
/*
 * Branches under fire: two threads evaluate sites at every offset of a cache line while
 * a third switches their keys, site by site or all together. Each value that is seen
 * must have been in force at some time between the start and the end of the
 * evaluation; behind an update that has returned that is the new one alone.
 *
 * The negative controls run in processes of their own, which must fail: without int3 a
 * thread meets half an instruction, and without the rest of the poke the old value.
 *
 * With FLIPS each switch is the write of one byte: nothing traps, and there is no int3 to take out.
 * (That two bytes are not to be switched so is what the control of the other build shows. Without
 * the core sync nothing is seen to fail on the machines of today: models/flip.pml has that.)
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "hooks.h"

#define NOPS 68
#define JMPS 65
#define ALL  (NOPS + JMPS)

DEFINE_STATIC_KEY_ARRAY_FALSE(element_false, 68);
DEFINE_STATIC_KEY_ARRAY_TRUE(element_true, 65);
DEFINE_STATIC_KEY_FALSE(shared_false);
DEFINE_STATIC_KEY_TRUE(shared_true);

struct branch_site {
	int (*fn)(void);
	const uint8_t *insn;
};

/* By site: element keys', then those of the shared ones. */
extern const struct branch_site branch_sites[2 * ALL];

/*
 * The history of one key: an update makes @begun the number of the one that begins
 * and, when it has returned, @done. Its parity is the key's value.
 */
struct history {
	_Alignas(64) _Atomic uint64_t begun, done;
};

static struct {
	_Atomic bool stop, failed;
	_Atomic unsigned focus; /* the site being updated, of 2 * ALL; hammered most */
	struct history history[ALL + 2];
	_Atomic uint64_t settled, seen; /* evaluations with one right answer, and all */
	char message[160];
} run;

static unsigned history_of(unsigned site)
{
	if (site < ALL)
		return site;
	return site < ALL + NOPS ? ALL : ALL + 1;
}

static bool evaluate(unsigned site)
{
	struct history *h = &run.history[history_of(site)];
	uint64_t done = atomic_load_explicit(&h->done, memory_order_acquire), begun;
	int value = branch_sites[site].fn();

	begun = atomic_load_explicit(&h->begun, memory_order_acquire);
	atomic_fetch_add_explicit(&run.seen, 1, memory_order_relaxed);
	if ((value & ~1) == 0 && (begun != done || value == (int)(done & 1))) {
		if (begun == done)
			atomic_fetch_add_explicit(&run.settled, 1, memory_order_relaxed);
		return true;
	}
	if (!atomic_exchange(&run.failed, true))
		(void)snprintf(run.message, sizeof(run.message),
			       "site %u (%p) says %d; update %" PRIu64 " was done before, %" PRIu64
			       " begun behind it",
			       site, (const void *)branch_sites[site].insn, value, done, begun);
	return false;
}

static void *hammer(void *arg)
{
	unsigned self = *(unsigned *)arg;

	for (unsigned i = 0; !run.stop; i++) {
		unsigned site = atomic_load_explicit(&run.focus, memory_order_relaxed);

		if (i % 8 == 7 || (site >= ALL && i % 2))
			site = i / 2 * 7 % (2 * ALL);
		if (!evaluate(site))
			break;
		hooks.passed[self]++;
	}
	return NULL;
}

/* With a constant index each, because the macros want one: through the handle. */
static int turn_to(unsigned site, bool on)
{
	const struct static_key *handle = site < NOPS         ? &element_false[site].key
					  : site < ALL        ? &element_true[site - NOPS].key
					  : site < ALL + NOPS ? &shared_false.key
							      : &shared_true.key;

	return on ? __static_key_enable(handle) : __static_key_disable(handle);
}

static bool seen_since(void *arg)
{
	const uint64_t *old = arg;

	return hooks.passed[0] > old[0] + 2 || hooks.passed[1] > old[1] + 2;
}

/* One update of the key of @site. @plan: what is provoked in it. */
static bool update(unsigned site, unsigned plan)
{
	struct history *h = &run.history[history_of(site)];
	uint64_t next = h->done + 1, old[2];
	bool keep = plan == 7;
	int ret;

	run.focus = site;
	hooks.step = 0;
	hooks.hold_at = plan < 7 ? plan : 1;
	hooks.keep = keep;
	atomic_store_explicit(&h->begun, next, memory_order_release);
	ret = turn_to(site, next & 1);
	atomic_store_explicit(&h->done, next, memory_order_release);
	hooks.keep = false;
	hooks.poke++;
	old[0] = hooks.passed[0];
	old[1] = hooks.passed[1];
	/* Now and then see it settled. */
	if (plan % 2)
		(void)hooks_wait(seen_since, old);
	if (ret && !atomic_exchange(&run.failed, true))
		(void)snprintf(run.message, sizeof(run.message), "site %u: %s", site,
			       shunt_last_error());
	return !ret && !run.failed;
}

/* What is provoked has come about often enough; with less, a torture says nothing. */
static bool has_met_all(void)
{
	bool trapped = hooks.traps[SHUNT_TRAP_EMULATED] > 100 && hooks.traps[SHUNT_TRAP_LATE] > 0;

#ifdef FLIPS
	trapped = !hooks.traps[SHUNT_TRAP_EMULATED] && !hooks.traps[SHUNT_TRAP_LATE];
#endif
	return run.settled > 1000 && hooks.held > 100 && trapped;
}

/*
 * All @updates, or less where the machine is slow: behind @seconds no more than it takes to
 * have met all. A control has its seconds alone: nothing traps there.
 */
static bool torture(unsigned updates, unsigned seconds)
{
	static unsigned self[2] = {0, 1};
	time_t end = time(NULL) + seconds;
	pthread_t threads[2];
	unsigned i;

	for (unsigned t = 0; t < 2; t++)
		if (pthread_create(&threads[t], NULL, hammer, &self[t]))
			return false;
	for (i = 0; i < updates && (time(NULL) <= end || (!hooks.drop_int3 && !has_met_all()));
	     i++) {
		/* All elements in turn, a shared key every ninth time. */
		unsigned site = i % 9 == 8 ? ALL + i / 9 % 2 * NOPS : i * 5 % ALL;

		if (!update(site, i / 3 % 16))
			break;
	}
	run.stop = true;
	for (unsigned t = 0; t < 2; t++)
		(void)pthread_join(threads[t], NULL);
	diag("%u updates, %" PRIu64 " evaluations, %" PRIu64 " of them with one right answer", i,
	     (uint64_t)run.seen, (uint64_t)run.settled);
	diag("traps: %" PRIu64 " emulated, %" PRIu64 " late, %" PRIu64 " foreign, %" PRIu64
	     " kept until the poke was over; waits: %" PRIu64 ", given up %" PRIu64,
	     (uint64_t)hooks.traps[SHUNT_TRAP_EMULATED], (uint64_t)hooks.traps[SHUNT_TRAP_LATE],
	     (uint64_t)hooks.traps[SHUNT_TRAP_FOREIGN], (uint64_t)hooks.kept, (uint64_t)hooks.held,
	     (uint64_t)hooks.missed);
	if (run.failed)
		diag("%s", run.message);
	return !run.failed;
}

static void start_history(void)
{
	for (unsigned i = NOPS; i < ALL; i++)
		run.history[i].done = run.history[i].begun = 1;
	run.history[ALL + 1].done = run.history[ALL + 1].begun = 1;
}

/* ----------------------------------------------------------------- the controls */

static void control(bool int3, const char *name)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		struct rlimit none = {0, 0};

		(void)setrlimit(RLIMIT_CORE, &none);
		(void)alarm(20);
		hooks.drop_rest = !int3;
		/* (The int3 alone would do: it has the effect of the new bytes.) */
		hooks.drop_int3 = true;
		_exit(torture(20000, 3) ? 0 : 1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		ok(false, "%s: fork", name);
		return;
	}
	ok(status != 0, "%s: fails, as it must (%s %d)", name,
	   WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : 1);
}

/* ------------------------------------------------------------------------ counting */

#define COUNTERS 4
#define COUNTS   20000

static _Atomic uint64_t count_errors, off_seen;

/*
 * Each thread holds the key while it looks at it: between its own inc and dec the
 * branch is on. (In Linux a second inc could return before the first had changed the
 * text: 83ab38ef0a0b.)
 */
static void *count(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < COUNTS / 8; i++) {
		count_errors += static_branch_inc(&shared_false) != 0;
		off_seen += !branch_sites[ALL + i % NOPS].fn();
		off_seen += static_key_count(&shared_false) < 1;
		count_errors += static_branch_dec(&shared_false) != 0;
	}
	return NULL;
}

/* The same without a pause, from a count of 1: the lock-free way. */
static void *count_fast(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < COUNTS; i++) {
		count_errors += static_branch_inc(&shared_true) != 0;
		if (i % 3)
			count_errors += static_branch_dec(&shared_true) != 0;
	}
	return NULL;
}

static void on_each(void *(*fn)(void *))
{
	pthread_t threads[COUNTERS];

	for (unsigned i = 0; i < COUNTERS; i++)
		if (pthread_create(&threads[i], NULL, fn, NULL))
			abort();
	for (unsigned i = 0; i < COUNTERS; i++)
		(void)pthread_join(threads[i], NULL);
}

static unsigned messages;

static void count_message(const char *message, void *arg)
{
	(void)arg;
	if (messages++ < 5)
		diag("message: %s", message);
}

static void test_counting(void)
{
	struct shunt_stats before, after;
	int n, expected = 0;

	n = static_branch_disable(&shared_false);
	n |= static_branch_enable(&shared_true);
	ok(!n, "counting: from a known state");
	shunt_set_log(count_message, NULL);
	shunt_get_stats(&before);
	on_each(count);
	shunt_get_stats(&after);
	ok(!count_errors && !off_seen && static_key_count(&shared_false) == 0,
	   "%d threads inc and dec: no error, never off in between, 0 at the end (%" PRIu64
	   " switches)",
	   COUNTERS, after.updates - before.updates);
	for (unsigned i = 0; i < NOPS; i++)
		expected += branch_sites[ALL + i].fn();
	ok(expected == 0, "and all of its sites are off");
	on_each(count_fast);
	expected = 1 + COUNTERS * ((COUNTS + 2) / 3);
	ok(!count_errors && static_key_count(&shared_true) == expected, "%d threads count up: %d",
	   COUNTERS, expected);
	ok(!messages, "nothing of it was reported as a failure");
	while (static_key_count(&shared_true) > 1)
		if (static_branch_dec(&shared_true))
			break;
	ok(static_branch_dec(&shared_true) == 0 && branch_sites[ALL + NOPS].fn() == 0,
	   "and down to off");
}

int main(void)
{
	unsigned updates = 30000;

	if (getenv("SHUNT_TORTURE_UPDATES"))
		updates = (unsigned)strtoul(getenv("SHUNT_TORTURE_UPDATES"), NULL, 10);
	start_history();
#ifndef FLIPS
	control(true, "without int3");
#endif
	control(false, "without a write");
	ok(torture(updates, 4), "every evaluation is old or new, and none is old behind an update");
	ok(has_met_all() && !hooks.traps[SHUNT_TRAP_FOREIGN], "what had to be met was met");
	hooks.hold_at = 0;
	test_counting();
	return tap_done();
}
