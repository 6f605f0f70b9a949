/* SPDX-License-Identifier: MIT */
/*
 * Leaving a called function otherwise than by return, on each path and by the
 * thousand, while another thread changes the targets all the time: longjmp(),
 * pthread_exit(), cancellation that the function waits for (deferred) and that hits
 * it anywhere (asynchronous), also while the thread stands in a veneer. A cleanup of
 * the caller's frame, which the unwinder has to find, is counted.
 *
 * The same in processes of their own whose veneers come from a pool, because the program's
 * own are used up. Control: a pool that is kept from the unwinder (SHUNT_FRAMES=0): the
 * cleanup of a thread that is cancelled in it is not run.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "../common/emulated.h"
#include "paths.h"

#define TIMES   (is_emulated() ? 20ul : 200ul)
#define THREADS (7 * TIMES) /* on each path so many */

static _Atomic bool stop;
static _Atomic unsigned long updates, failures, cleanups;

static void *keep_updating(void *arg)
{
	(void)arg;
	for (unsigned round = 0; !stop; round++) {
		failures += paths_update(round) != 0;
		updates++;
	}
	failures += paths_update(0) != 0;
	return NULL;
}

static void clean_up(const int *armed)
{
	cleanups += (unsigned long)*armed;
}

/* The frame with the cleanup. */
KEEP static long cleaned(path_fn *fn, long arg)
{
	int armed __attribute__((cleanup(clean_up))) = 1;
	long ret = fn(arg);

	armed = 0; /* not where the call returns */
	return ret;
}

/* ------------------------------------------------------- what the targets do */

static __thread jmp_buf *jump;

static long jump_out(long arg)
{
	(void)arg;
	longjmp(*jump, 1);
}

static long exit_thread(long arg)
{
	(void)arg;
	pthread_exit(PTHREAD_CANCELED);
}

static long cancel_point(long arg)
{
	(void)pthread_cancel(pthread_self());
	pthread_testcancel();
	return arg;
}

static long same(long arg)
{
	return arg;
}

/* ------------------------------------------------------------------- threads */

static void *call_once(void *path)
{
	(void)cleaned(((const struct path *)path)->function, 1);
	return NULL;
}

static _Atomic bool running;

KEEP static long call_while_running(long which)
{
	for (running = true; running;)
		(void)paths[which].function(1);
	return 0;
}

static void *call_until_cancelled(void *path)
{
	int unused;

	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &unused);
	(void)cleaned(call_while_running, (const struct path *)path - paths);
	return NULL;
}

/* One thread for each i < n, on each path in turn. @cancel: from outside. */
static void end_threads(const char *what, void *(*main_fn)(void *), path_fn *hook, bool cancel)
{
	unsigned long ended = 0;

	path_hook = hook;
	cleanups = 0;
	for (unsigned long i = 0; i < THREADS; i++) {
		pthread_t thread;
		void *result = NULL;

		running = false;
		if (pthread_create(&thread, NULL, main_fn, (void *)&paths[i % nr_paths]))
			break;
		while (cancel && !running)
			(void)sched_yield();
		if (cancel)
			(void)pthread_cancel(thread);
		(void)pthread_join(thread, &result);
		ended += result == PTHREAD_CANCELED;
	}
	ok(ended == THREADS && cleanups == THREADS, "%s: %lu of %lu threads ended, %lu cleanups",
	   what, ended, THREADS, (unsigned long)cleanups);
}

static void jump_often(void)
{
	static unsigned long jumped, times;
	static size_t p;
	jmp_buf buf;

	path_hook = jump_out;
	jump = &buf;
	jumped = 0;
	times = 100 * TIMES;
	for (p = 0; p < nr_paths; p++)
		for (volatile unsigned i = 0; i < times; i++) {
			if (!setjmp(buf))
				(void)paths[p].function(1);
			else
				jumped++;
		}
	ok(jumped == times * nr_paths, "longjmp: %lu of %lu", jumped, times * nr_paths);
}

/* --------------------------------------------------- cancelled in the middle */

static uintptr_t veneer;

/* An asynchronous cancellation of oneself is acted on at once, here. */
static void on_step(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = context_ip(context);

	(void)sig;
	(void)info;
	if ((veneer && ip - veneer < VENEER_BYTES) || path_in_trampoline(ip))
		(void)pthread_cancel(pthread_self());
}

static long step_path(long which)
{
	return path_step(paths[which].function, 1);
}

static void *step_until_cancelled(void *arg)
{
	const struct path *path = arg;
	int unused;

	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &unused);
	(void)cleaned(step_path, path - paths);
	return NULL;
}

/* Threads that are cancelled in @path: how many of their cleanups ran. */
static unsigned long cancel_in(const struct path *path, unsigned long n)
{
	path_hook = same;
	cleanups = 0;
	veneer = 0;
	if (path->far && !path_veneer(path, &veneer))
		ok(false, "%s: the call is not far", path->name);
	for (unsigned long i = 0; i < n; i++) {
		pthread_t thread;
		void *result = NULL;

		if (pthread_create(&thread, NULL, step_until_cancelled, (void *)path))
			break;
		(void)pthread_join(thread, &result);
		if (result != PTHREAD_CANCELED)
			ok(false, "%s: a thread was not cancelled", path->name);
	}
	return cleanups;
}

static void cancel_in_passages(unsigned long n)
{
	for (size_t p = 0; p < nr_paths; p++) {
		unsigned long ran;

		if (!paths[p].far && paths[p].name[1] != 'r')
			continue;
		ran = cancel_in(&paths[p], n);
		ok(ran == n, "cancelled in the middle of it, %s: %lu threads, %lu cleanups",
		   paths[p].name, n, ran);
	}
}

/* In a process of its own: 42 where all cleanups run, 43 where none does. */
static int from_pool(void)
{
	unsigned long ran = 0, all = 0;

	for (size_t p = 0; p < nr_paths; p++) {
		if (!paths[p].far)
			continue;
		ran += cancel_in(&paths[p], 10);
		all += 10;
		if (path_in_area(veneer))
			return 1;
	}
	if (ran && ran != all)
		return 1;
	return ran ? 42 : 43;
}

static void run_pools(void)
{
	int status = path_child(NULL, "pool", "1");

	ok(WIFEXITED(status) && WEXITSTATUS(status) == 42,
	   "veneers of a pool, SHUNT_FRAMES=1: all cleanups run (%#x)", (unsigned)status);
	status = path_child(NULL, "pool", "0");
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 43,
	   "control: SHUNT_FRAMES=0: no cleanup runs of a thread cancelled in one (%#x)",
	   (unsigned)status);
}

static void while_updating(void)
{
	struct shunt_stats before, after;
	pthread_t thread;

	shunt_get_stats(&before);
	if (!ok(!pthread_create(&thread, NULL, keep_updating, NULL), "an updating thread"))
		return;
	jump_often();
	end_threads("pthread_exit", call_once, exit_thread, false);
	end_threads("cancelled, deferred", call_once, cancel_point, false);
	end_threads("cancelled, asynchronously", call_until_cancelled, same, true);
	stop = true;
	(void)pthread_join(thread, NULL);
	shunt_get_stats(&after);
	ok(!failures && updates > 5 * TIMES, "meanwhile %lu updates, %lu failed; %llu traps",
	   (unsigned long)updates, (unsigned long)failures,
	   (unsigned long long)(after.traps - before.traps));
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	bool pool = argc > 1 && !strcmp(argv[1], "pool");
	bool good = !sigaction(SIGTRAP, &action, NULL) && (!pool || paths_fill_area()) &&
		    !paths_update(1) && !paths_update(0);

#ifdef SUITE_TSAN
	skip("cancellation", "the runtime does not support it at any instruction");
	return tap_done();
#endif
	if (pool)
		return good ? from_pool() : 1;
	ok(good, "keys have far targets");
	cancel_in_passages(TIMES);
	run_pools();
	while_updating();
	return tap_done();
}
