/* SPDX-License-Identifier: MIT */
/*
 * Many calls beside many updates that are synchronised by signals. Each call is checked
 * to be of a function that was current while it ran, and each round to have reached
 * every thread. Threads come and go meanwhile. Then what must make these checks fail.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "linux/sync/sync_handler.h"
#include "sync.h"

#define HAMMERS 4

static _Atomic bool stop;
static _Atomic uint64_t calls, wrong, born;
/* Updates that have begun, and that have returned; the nth is to functions[n % 4]. */
static _Atomic unsigned begun, done;

/* One call, and whether its result is of an update from the last finished to the last begun. */
static void check_call(long x)
{
	unsigned first = atomic_load(&done);
	long result = call_it(x) - 10 * x;
	unsigned last = atomic_load(&begun);
	bool right = false;

	for (unsigned n = first; n <= last && n < first + FUNCTIONS; n++)
		right = right || result == (long)(n % FUNCTIONS);
	atomic_fetch_add_explicit(&wrong, !right, memory_order_relaxed);
}

static void *hammer(void *arg)
{
	unsigned index = (unsigned)(uintptr_t)arg;
	uint64_t n = 0;

	hook_thread(index);
	for (; !atomic_load_explicit(&stop, memory_order_relaxed); n++)
		check_call((long)(n & 0xffff));
	unhook_thread(index);
	atomic_fetch_add(&calls, n);
	return NULL;
}

static unsigned update_many(unsigned updates)
{
	unsigned failures = 0;

	for (unsigned i = 0; i < updates; i++) {
		unsigned n = atomic_fetch_add(&begun, 1) + 1;

		failures += update_to(n % FUNCTIONS) != 0;
		atomic_store(&done, n);
	}
	return failures;
}

static void start(pthread_t *threads, void *(*fn)(void *), unsigned n, unsigned from)
{
	atomic_store(&stop, false);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_create(&threads[i], NULL, fn, (void *)(uintptr_t)(from + i));
}

static void finish(const pthread_t *threads, unsigned n)
{
	atomic_store(&stop, true);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
}

static void wait_for_hooks(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		while (!atomic_load(&hooked[i].present))
			sched_yield();
}

static uint64_t answers(unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += atomic_load(&hooked[i].times);
	return sum;
}

/* Rounds have 31 bits, and none is number 0, which all threads have answered. */
static unsigned update_over_the_last_round(void)
{
	unsigned failures;

	(void)shunt_port_lock();
	atomic_store(&shunt_sync_round, INT32_MAX - 10);
	shunt_port_unlock();
	failures = update_many(10);
	return failures + (shunt_sync_round > 100);
}

int test_torture(void)
{
	const char *wanted = getenv("SHUNT_TORTURE_UPDATES");
	unsigned updates = wanted ? (unsigned)strtoul(wanted, NULL, 10) : 60;
	pthread_t threads[HAMMERS];
	struct shunt_ways ways;
	uint64_t rounds;
	unsigned failures;

	start(threads, hammer, HAMMERS, 0);
	wait_for_hooks(HAMMERS);
	rounds = atomic_load(&hook_counts.rounds);
	failures = update_many(updates) + update_over_the_last_round();
	finish(threads, HAMMERS);
	rounds = atomic_load(&hook_counts.rounds) - rounds;
	shunt_get_ways(&ways);
	ok(!failures && rounds >= 3ull * updates - 3, "%u updates, %llu rounds, %u failures%s%s",
	   updates, (unsigned long long)rounds, failures, failures ? ": " : "",
	   failures ? shunt_last_error() : "");
	ok(!strcmp(ways.sync, "signals"), "the way is \"%s\"", ways.sync);
	ok(!wrong && calls, "%llu calls, %llu of them wrong", (unsigned long long)calls,
	   (unsigned long long)wrong);
	ok(!hook_counts.missing && answers(HAMMERS) >= HAMMERS * rounds,
	   "each of %d threads serialised in each round: %llu times in all, %llu missing", HAMMERS,
	   (unsigned long long)answers(HAMMERS), (unsigned long long)hook_counts.missing);
	return tap_done();
}

static void *mayfly(void *arg)
{
	check_call((long)(uintptr_t)arg);
	return NULL;
}

static void *breed(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		pthread_t threads[8];
		unsigned n = 0;

		for (; n < 8; n++)
			if (pthread_create(&threads[n], NULL, mayfly, (void *)(uintptr_t)n))
				break;
		atomic_fetch_add(&born, n);
		while (n--)
			(void)pthread_join(threads[n], NULL);
	}
	return NULL;
}

int test_signal_storm(void)
{
	enum { UPDATES = 80, BORN = 500 };
	pthread_t hammers[2], breeders[3];
	unsigned failures;

	start(hammers, hammer, 2, 0);
	start(breeders, breed, 3, 0);
	wait_for_hooks(2);
	failures = update_many(UPDATES);
	while (atomic_load(&born) < BORN) /* on a busy machine */
		failures += update_many(1);
	finish(hammers, 2);
	finish(breeders, 3);
	ok(!failures, "%u updates while threads come and go, %u failures%s%s", atomic_load(&done),
	   failures, failures ? ": " : "", failures ? shunt_last_error() : "");
	ok(born >= BORN && !wrong, "%llu threads came and went, %llu wrong calls",
	   (unsigned long long)born, (unsigned long long)wrong);
	ok(!hook_counts.missing, "no thread that stayed was left out");
	diag("%llu listings, %llu of them not complete", (unsigned long long)hook_counts.lists,
	     (unsigned long long)hook_counts.incomplete);
	return tap_done();
}

/* Update until a round is seen to have missed a thread; how many updates that took. */
static unsigned until_missing(unsigned most)
{
	uint64_t before = atomic_load(&hook_counts.missing);
	unsigned n = 0;

	while (n < most && atomic_load(&hook_counts.missing) == before) {
		n++;
		(void)update_many(1);
	}
	return n;
}

int test_controls(void)
{
	pthread_t threads[2];
	unsigned n;

	start(threads, hammer, 2, 0);
	wait_for_hooks(2);
	n = until_missing(100);
	ok(n == 100 && !hook_counts.missing,
	   "with everything in place nothing is seen in %u updates", n);
	hook_skips_a_thread = true;
	n = until_missing(1);
	ok(hook_counts.missing > 0, "a list that leaves a thread out is seen in update %u", n);
	hook_skips_a_thread = false;
	hook_does_not_wait = true;
	n = until_missing(1000);
	ok(n < 1000, "no wait for the answers is seen in update %u", n);
	hook_does_not_wait = false;
	finish(threads, 2);
	return tap_done();
}

/* The fall-back taken out (SHUNT_SYNC=membarrier, and membarrier forbidden). */
int test_forced(void)
{
	uint8_t before[64];
	int ret;

	(void)text_is(NULL, before);
	ret = update_to(1);
	ok(ret == -EPERM || ret == -EINVAL || ret == -ENOSYS, "an update fails: %d, %s", ret,
	   shunt_last_error());
	ok(strstr(shunt_last_error(), "membarrier") != NULL, "and names membarrier");
	ok(text_is(before, NULL) && call_it(1) == 10, "nothing has changed");
	return tap_done();
}
