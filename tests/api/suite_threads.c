/* SPDX-License-Identifier: MIT */
/*
 * Calls from several threads and from signal handlers while keys change, updates
 * from several threads at once, and functions that update the key by which they
 * were called.
 *
 * What is checked is the whole guarantee, not only that nothing crashes: a caller
 * notes which update was the last to return before its call, and which the last
 * to start before its end; the result must be of one in between.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "suite.h"
#include "tap.h"

/* The four targets, in the order in which the updater goes round. */
static int (*const targets[4])(int) = {add1, add2, add3, add4};

/* Generation g has targets[g % 4]. */
static _Atomic unsigned long started, finished;
static _Atomic bool stop;

struct hammer {
	int (*site)(int);
	_Atomic unsigned long calls;
	unsigned long wrong;
	pthread_t thread;
};

/* Whether @result is of a generation from @first to @last. */
static bool is_of(int result, unsigned long first, unsigned long last)
{
	for (unsigned long g = first; g <= last && g < first + 4; g++)
		if (result == -100 + (int)(g % 4) + 1)
			return true;
	return false;
}

static void *hammer(void *arg)
{
	struct hammer *h = arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		unsigned long first = atomic_load(&finished);
		int result = h->site(-100);

		h->wrong += !is_of(result, first, atomic_load(&started));
		atomic_fetch_add_explicit(&h->calls, 1, memory_order_relaxed);
	}
	return NULL;
}

static int update_round(unsigned long n)
{
	int errors = 0;

	for (unsigned long g = 1; g <= n; g++) {
		atomic_store(&started, g);
		errors += static_call_update(st_add, targets[g % 4]) != 0;
		atomic_store(&finished, g);
	}
	return errors;
}

KEEP static int thread_local_site(int x)
{
	int y = static_call(st_add)(x);

	return y + zero;
}

static void test_hammer(void)
{
	struct hammer h[] = {
		{.site = call_site},
		{.site = tail_site},
		{.site = thread_local_site},
#ifndef SHUNT_GENERIC
		{.site = jcc_site},
#endif
	};
	unsigned long calls = 0, wrong = 0;
	const size_t n = sizeof(h) / sizeof(h[0]);
	int errors;

	atomic_store(&stop, false);
	for (size_t i = 0; i < n; i++) {
		if (pthread_create(&h[i].thread, NULL, hammer, &h[i]))
			h[i].site = NULL;
		while (h[i].site && !atomic_load(&h[i].calls))
			sched_yield();
	}
	errors = update_round(options.updates);
	atomic_store(&stop, true);
	for (size_t i = 0; i < n; i++) {
		if (!h[i].site)
			continue;
		pthread_join(h[i].thread, NULL);
		calls += h[i].calls;
		wrong += h[i].wrong;
	}
	ok(errors == 0, "%lu updates while %zu threads call", options.updates, n);
	ok(calls > 0 && wrong == 0, "%lu of %lu calls came out wrong", wrong, calls);
	ok(call_site(0) == 1 && tail_site(0) == 1, "and in the end it is the last target");
	check_sites("after the hammer", "st_add", NULL, (void *)add1, 6);
}

/* --------------------------------------------------------- signal handlers */

static _Atomic unsigned long handled, handled_wrong, refused, handler_errors;

static void on_signal(int sig)
{
	int saved = errno;
	unsigned long first = atomic_load(&finished);
	int result = call_site(-100);
	int ret;

	(void)sig;
	atomic_fetch_add(&handled_wrong, !is_of(result, first, atomic_load(&started)));
	/* Of another key: the generations above are the updater's alone. */
	ret = static_call_update(st_zero, (atomic_fetch_add(&handled, 1) & 1)
						  ? add1
						  : (int (*)(int))STATIC_CALL_RET0);
	atomic_fetch_add(&refused, ret == -EDEADLK);
	atomic_fetch_add(&handler_errors, ret && ret != -EDEADLK);
	errno = saved;
}

/*
 * In an update only those signals are not blocked that an instruction may raise.
 * (ThreadSanitizer would run their handlers in the middle of its own code.)
 */
#ifdef SUITE_TSAN
#define OPEN SIGUSR1
#else
#define OPEN SIGBUS
#endif

static void *signaller(void *arg)
{
	pthread_t *to = arg;
	unsigned long sent = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		struct timespec pause = {0, 20000};

		pthread_kill(*to, sent++ % 2 ? SIGUSR1 : OPEN);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void test_handlers(void)
{
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old, old_open;
	pthread_t self = pthread_self(), thread;
	int errors, ret;

	atomic_store(&stop, false);
	atomic_store(&started, 0);
	atomic_store(&finished, 0);
	sigemptyset(&sa.sa_mask);
	sigaction(OPEN, &sa, &old_open);
	sigaction(SIGUSR1, &sa, &old);
	if (pthread_create(&thread, NULL, signaller, &self)) {
		skip("calls in signal handlers", "no thread");
		return;
	}
	errors = update_round(options.updates);
	while (!atomic_load(&handled))
		;
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	sigaction(SIGUSR1, &old, NULL);
	sigaction(OPEN, &old_open, NULL);
	ok(errors == 0 && atomic_load(&handled_wrong) == 0,
	   "%lu handlers call while the thread updates", atomic_load(&handled));
	ok(atomic_load(&handler_errors) == 0,
	   "they update too, %lu were told that the thread is in an update", atomic_load(&refused));
	ret = static_call_update(st_zero, STATIC_CALL_RET0);
	ok(ret == 0, "back to RET0");
}

/* ------------------------------------------------------ concurrent updaters */

DEFINE_STATIC_CALL(st_shared, add1);

KEEP static int shared_site(int x)
{
	return static_call(st_shared)(x) - zero;
}

static void *update_shared(void *arg)
{
	long errors = 0;
	size_t start = (size_t)arg;

	for (size_t i = 0; i < options.updates / 4; i++) {
		int x;

		errors += static_call_update(st_shared, targets[(start + i) % 4]) != 0;
		x = shared_site(0);
		errors += x < 1 || x > 4;
		errors += static_call_update(st_bump, i & 1 ? bump_by_1 : NULL) != 0;
	}
	return (void *)errors;
}

static void test_updaters(void)
{
	pthread_t threads[3];
	size_t n = 0;
	long errors = 0;
	void *target;
	int ret;

	while (n < 3 && !pthread_create(&threads[n], NULL, update_shared, (void *)n))
		n++;
	for (size_t i = 0; i < n; i++) {
		void *result;

		pthread_join(threads[i], &result);
		errors += (long)result;
	}
	ok(n == 3 && errors == 0, "three threads update the same keys at once");
	target = static_call_query(st_shared);
	ok(target == (void *)targets[shared_site(0) - 1], "the call is what query tells");
	check_sites("after three updaters", "st_shared", NULL, target, 1);
	ret = static_call_update(st_bump, NULL);
	ok(ret == 0, "back to NULL");
}

/* ---------------------------------------------------------------- recursion */

KEEP static int count_down(int n);
KEEP static int count_down_other(int n);
DEFINE_STATIC_CALL(st_recursive, count_down);

/* Each updates the key that it was called by and calls it: they take turns. */
KEEP static int count_down(int n)
{
	if (static_call_update(st_recursive, count_down_other))
		return -1000;
	return n > 0 ? static_call(st_recursive)(n - 1) + 1 : 0;
}

KEEP static int count_down_other(int n)
{
	if (static_call_update(st_recursive, count_down))
		return -1000;
	return n > 0 ? static_call(st_recursive)(n - 1) + 100 : 0;
}

static void test_recursion(void)
{
	int result = static_call(st_recursive)(10);

	ok(result == 505, "a function updates the key that it was called by, ten deep: %d", result);
}

void test_threads(void)
{
	test_recursion();
	test_hammer();
	/* TSan runs handlers with all signals blocked, where a trap is fatal. */
#ifdef SUITE_TSAN
	(void)test_handlers;
	skip("calls in signal handlers", "TSan runs handlers with SIGTRAP blocked");
#else
	test_handlers();
#endif
	test_updaters();
}
