/* SPDX-License-Identifier: MIT */
/*
 * The core sync by signals: `sync TEST [ERRNO]`. With an error number membarrier(2) fails
 * with it, by a seccomp filter; and the program is run again, so that start-up meets that
 * too, but for the tests "after_start" and "forced".
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../common/filter.h"
#include "sync.h"

/* ------------------------------------------------------------------- the call */

long function_0(long x)
{
	return 10 * x;
}

static long function_1(long x)
{
	return 10 * x + 1;
}

static long function_2(long x)
{
	return 10 * x + 2;
}

static long function_3(long x)
{
	return 10 * x + 3;
}

long (*const functions[FUNCTIONS])(long) = {function_0, function_1, function_2, function_3};

DEFINE_STATIC_CALL(synced, function_0);

long call_it(long x)
{
	return static_call(synced)(x) + 0 * (long)tap_count;
}

int update_to(unsigned index)
{
	return static_call_update(synced, functions[index]);
}

/* ---------------------------------------------------------------------- helpers */

long raw_tid(void)
{
	return syscall(SYS_gettid);
}

char task_state(long tid)
{
	char path[64], line[512] = "";
	const char *end;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", tid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	end = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	(void)fclose(f);
	return end ? end[2] : (char)0;
}

void wait_until_asleep(long tid)
{
	for (char now = 'R'; now && now != 'S'; now = task_state(tid))
		sched_yield();
}

int chosen_signal(void)
{
	struct sigaction action;

	for (int sig = 64; sig >= SIGRTMIN; sig--)
		if (!sigaction(sig, NULL, &action) && action.sa_handler != SIG_DFL &&
		    action.sa_handler != SIG_IGN)
			return sig;
	return 0;
}

struct copy {
	const uint8_t *from;
	uint8_t *into;
	size_t n;
	bool same;
};

static int add_site(const struct shunt_site_info *info, void *arg)
{
	struct copy *copy = arg;

	if (copy->from)
		copy->same = copy->same && !memcmp(copy->from + copy->n, info->addr, info->len);
	else
		memcpy(copy->into + copy->n, info->addr, info->len);
	copy->n += info->len;
	return 0;
}

bool text_is(const uint8_t *copy, uint8_t *into)
{
	struct copy c = {copy, into, 0, true};

	return !shunt_for_each_site("synced", add_site, &c) && c.n && c.same;
}

/* ------------------------------------------------------------------ without /proc */

static int test_no_proc(void)
{
	uint8_t before[64];
	int ret;

	(void)text_is(NULL, before);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", 0, NULL)) {
		skip("without /proc", "no mount namespace to be had");
		return tap_done();
	}
	ret = update_to(1);
	ok(ret == -ENOSYS && strstr(shunt_last_error(), "/proc/self/task"),
	   "an update fails: %d, %s", ret, shunt_last_error());
	ok(text_is(before, NULL) && call_it(1) == 10, "nothing has changed");
	return tap_done();
}

/* -------------------------------------------------------------------------- costs */

static _Atomic bool stop;

static void *sleep_or_spin(void *arg)
{
	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		if (arg)
			(void)syscall(SYS_futex, &stop, 0 /* FUTEX_WAIT */, 0, NULL);
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Median of 101 syncs beside @n threads, in microseconds. */
static double cost(unsigned n, bool asleep)
{
	static pthread_t threads[1000];
	uint64_t ns[101];

	atomic_store(&stop, false);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_create(&threads[i], NULL, sleep_or_spin, asleep ? &stop : NULL);
	(void)shunt_port_lock();
	(void)!shunt_port_core_sync();
	for (unsigned i = 0; i < 101; i++) {
		struct timespec a, b;

		(void)clock_gettime(CLOCK_MONOTONIC, &a);
		(void)!shunt_port_core_sync();
		(void)clock_gettime(CLOCK_MONOTONIC, &b);
		ns[i] = (uint64_t)((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec);
	}
	shunt_port_unlock();
	atomic_store(&stop, true);
	(void)syscall(SYS_futex, &stop, 1 /* FUTEX_WAKE */, 1000);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	qsort(ns, 101, sizeof(ns[0]), by_size);
	return (double)ns[50] / 1000;
}

static int test_cost(void)
{
	static const unsigned numbers[] = {0, 1, 10, 100, 1000};
	struct shunt_ways ways;

	(void)cost(0, true);
	shunt_get_ways(&ways);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		diag("%s, %4u other threads: %9.1f us, all asleep", ways.sync, numbers[i],
		     cost(numbers[i], true));
	diag("%s,    1 other thread:  %9.1f us, running", ways.sync, cost(1, false));
	ok(!hook_counts.failed, "no sync failed");
	return tap_done();
}

/* --------------------------------------------------------------------------- main */

static const struct {
	const char *name;
	int (*run)(void);
} tests[] = {
	{"torture", test_torture},
	{"after_start", test_torture},
	{"signal_storm", test_signal_storm},
	{"controls", test_controls},
	{"forced", test_forced},
	{"signal_blocked", test_signal_blocked},
	{"signal_handler", test_signal_handler},
	{"restarted_calls", test_restarted_calls},
	{"leader_exits", test_leader_exits},
	{"fork_vfork", test_fork_vfork},
	{"no_proc", test_no_proc},
	{"cost", test_cost},
	{"io_uring", test_io_uring},
	{"sigwait", test_sigwait},
	{"stopped", test_stopped},
	{"debugged", test_debugged},
	{"signal_consumed", test_signal_consumed},
	{"new_threads", test_new_threads},
	{"process_copies", test_process_copies},
	{"thread_resources", test_thread_resources},
	{"full_queue", test_full_queue},
	{"executed", test_executed},
};

int main(int argc, char **argv)
{
	unsigned error = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (argc > 2 && !strcmp(argv[1], "executed_image"))
		return executed_image((int)error);
	if (error && !answer_syscall(SYS_membarrier, (int)error))
		return 1;
	if (error && strcmp(argv[1], "forced") != 0 && strcmp(argv[1], "after_start") != 0) {
		argv[2] = NULL;
		(void)execv("/proc/self/exe", argv);
		return 1;
	}
#ifdef SUITE_TSAN
	printf("1..0 # SKIP ThreadSanitizer has a thread that blocks all signals\n");
	return 0;
#endif
	shunt_set_log(NULL, NULL);
	for (size_t i = 0; argc > 1 && i < sizeof(tests) / sizeof(tests[0]); i++)
		if (!strcmp(argv[1], tests[i].name))
			return tests[i].run();
	return 2;
}
