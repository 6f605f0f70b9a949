/* SPDX-License-Identifier: MIT */
/*
 * What a program does with signals, processes and threads beside a core sync by
 * signals: blocks them all, has a handler of its own on the very signal, sits in system
 * calls, forks.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sync.h"

static _Atomic long tid;
static _Atomic int wish, state; /* of the thread: what it is to do, what it has done */

static void wait_for(_Atomic int *word, int value)
{
	while (atomic_load(word) != value)
		sched_yield();
}

/* ---------------------------------------------------------------------- blocking */

static void mask_all(int how)
{
	uint64_t all = ~0ull;

	(void)syscall(SYS_rt_sigprocmask, how, &all, NULL, sizeof(all));
}

/* wish odd: all signals are blocked; even: none; 100: end. state follows. */
static void *blocker(void *arg)
{
	int now = 0, want;

	(void)arg;
	hook_thread(0);
	atomic_store(&tid, raw_tid());
	while ((want = atomic_load(&wish)) != 100) {
		if (want != now)
			mask_all(want % 2 ? SIG_BLOCK : SIG_UNBLOCK);
		now = want;
		atomic_store(&state, now);
	}
	unhook_thread(0);
	return NULL;
}

static void turn_to(int value)
{
	atomic_store(&wish, value);
	wait_for(&state, value);
}

/* Signals that are pending for the thread, as /proc says. */
static uint64_t pending(void)
{
	char path[64], line[128];
	unsigned long long set = ~0ull;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%ld/status", atomic_load(&tid));
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "SigPnd:", 7))
			set = strtoull(line + 7, NULL, 16);
	if (f)
		(void)fclose(f);
	return set;
}

static void expect_failure(const char *when)
{
	uint8_t before[64];
	char who[64];
	int ret;

	(void)snprintf(who, sizeof(who), "thread %ld, which blocks it", atomic_load(&tid));
	(void)text_is(NULL, before);
	ret = update_to(1);
	ok(ret == -EAGAIN && strstr(shunt_last_error(), who), "%s: %d, %s", when, ret,
	   shunt_last_error());
	ok(text_is(before, NULL) && call_it(1) == 10 &&
		   (void *)static_call_query(synced) == (void *)functions[0],
	   "and nothing has changed");
}

int test_signal_blocked(void)
{
	pthread_t thread;

	wish = 1;
	(void)pthread_create(&thread, NULL, blocker, NULL);
	wait_for(&state, 1);
	expect_failure("a thread that has blocked all signals");
	ok(!pending(), "it has no signal pending, that a sigwait() would return");
	expect_failure("again");
	turn_to(2);
	ok(!update_to(1) && call_it(1) == 11, "it unblocks them: the update works");
	ok(!update_to(0) && call_it(1) == 10, "and back");
	turn_to(3);
	expect_failure("a thread that has answered before");
	diag("pending for it: %llx", (unsigned long long)pending());
	turn_to(4);
	ok(!pending(), "what was left pending for it has done no harm");
	ok(!update_to(1) && !update_to(0), "updates work again");
	ok(hooked[0].times > 0 && !hook_counts.missing, "it answered %llu times, %llu missing",
	   (unsigned long long)hooked[0].times, (unsigned long long)hook_counts.missing);
	atomic_store(&wish, 100);
	(void)pthread_join(thread, NULL);
	return tap_done();
}

/* ----------------------------------------------------------------------- handlers */

static _Atomic unsigned seen;
static struct sigaction replaced;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	atomic_fetch_add(&seen, 1);
	replaced.sa_sigaction(sig, info, context); /* as a good citizen does */
}

static unsigned update_both(unsigned n)
{
	unsigned failures = 0;

	for (unsigned i = 0; i < n; i++)
		failures += update_to(1) || update_to(0);
	return failures;
}

/* The signal that a child dies of when it sends itself @sig. */
static int death_by(int sig)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		(void)kill(getpid(), sig);
		_exit(0);
	}
	(void)waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* From now on the process is killed where it sets the action of signal @sig. */
static bool forbid_action(int sig)
{
	const size_t action = offsetof(struct seccomp_data, args[1]);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)sig, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)action),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)action + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* A child's first update, with the action of @sig forbidden. The control: of the one it chooses. */
static int first_update_without(int sig)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		_exit(!forbid_action(sig) || update_to(1));
	(void)waitpid(pid, &status, 0);
	return status;
}

int test_signal_handler(void)
{
	struct sigaction own = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
	struct sigaction theirs = {.sa_handler = SIG_IGN};
	pthread_t thread;
	int first, second;

	(void)sigaction(64, &theirs, NULL);
	(void)sigaction(60, &theirs, NULL);
	ok(!first_update_without(64), "64 is the program's: it is not even set for a moment");
	ok(WIFSIGNALED(first_update_without(63)), "control: 63 is, where that kills");
	(void)pthread_create(&thread, NULL, blocker, NULL);
	while (!atomic_load(&tid))
		sched_yield();
	ok(!update_both(10), "updates work");
	first = chosen_signal();
	ok(first == 63, "64 is ignored by the program: %d is chosen", first);
	ok(death_by(first) == first, "sent by somebody else, it has its default action");

	(void)sigaction(first, &own, &replaced);
	ok(!update_both(100), "the program installs a handler on it: updates work");
	second = 0;
	for (int sig = 62; sig > 34 && !second; sig--) {
		struct sigaction now;

		if (!sigaction(sig, NULL, &now) && now.sa_sigaction == replaced.sa_sigaction)
			second = sig;
	}
	ok(second == 62, "by another signal: %d", second);
	ok(!seen, "the program's handler has seen %u signals that it was not sent", seen);
	for (unsigned i = 0; i < 100; i++) {
		(void)raise(first);
		(void)update_both(1);
	}
	ok(seen == 100, "of 100 that it was sent it has seen %u", seen);
	ok(!hook_counts.missing && !hook_counts.failed, "no thread was left out");
	atomic_store(&wish, 100);
	(void)pthread_join(thread, NULL);
	return tap_done();
}

/* ------------------------------------------------------------------- system calls */

static int pipes[2];
static _Atomic uint32_t word;
static _Atomic int result;

static void in_read(void)
{
	char c;

	result = read(pipes[0], &c, 1) == 1 ? 0 : errno;
}

static void in_futex(void)
{
	result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL) ? errno : 0;
}

static void in_timed_futex(void)
{
	struct timespec hour = {3600, 0};

	result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &hour) ? errno : 0;
}

static void in_nanosleep(void)
{
	struct timespec hour = {3600, 0};

	result = nanosleep(&hour, &hour) ? errno : 0;
}

static void in_update(void)
{
	result = update_to(2);
}

static void *sit(void *arg)
{
	void (*const *call)(void) = arg;

	unblock_signals();
	hook_thread(0);
	atomic_store(&tid, raw_tid());
	(*call)();
	unhook_thread(0);
	atomic_store(&state, 1);
	return NULL;
}

static pthread_t sit_in(void (*const *call)(void))
{
	pthread_t thread;

	atomic_store(&tid, 0);
	atomic_store(&state, 0);
	(void)pthread_create(&thread, NULL, sit, (void *)(uintptr_t)call);
	while (!atomic_load(&tid))
		sched_yield();
	wait_until_asleep(tid);
	return thread;
}

/* Calls that are restarted, by what ends them. */
static void expect_restart(const char *name, void (*const *call)(void), void (*end)(void))
{
	uint64_t before = hooked[0].times;
	pthread_t thread = sit_in(call);
	unsigned failures = update_both(50);
	uint64_t times = hooked[0].times - before;

	wait_until_asleep(tid);
	ok(!failures && times >= 250 && !state, "%s: still there after %llu signals", name,
	   (unsigned long long)times);
	end();
	(void)pthread_join(thread, NULL);
	ok(!result, "%s: returns %d in the end", name, result);
}

static void end_read(void)
{
	(void)!write(pipes[1], "x", 1);
}

static void end_futex(void)
{
	(void)syscall(SYS_futex, &word, FUTEX_WAKE, 1);
}

/* And those that are not: signal(7) has the list. */
static void expect_eintr(const char *name, void (*const *call)(void))
{
	pthread_t thread = sit_in(call);
	int ret = update_to(1);

	(void)pthread_join(thread, NULL);
	ok(!ret && result == EINTR, "%s: ends with EINTR, as the manual says (%d)", name, result);
	(void)update_to(0);
}

/* A thread that waits for the update lock answers, and goes on waiting. */
static void expect_lock_waiter_answers(void (*const *call)(void))
{
	int locked = shunt_port_lock(), failures = 0;
	uint64_t before = hooked[0].times;
	pthread_t thread = sit_in(call);

	for (int i = 0; i < 100; i++) {
		wait_until_asleep(tid);
		failures += shunt_port_core_sync() != 0;
	}
	ok(!locked && !failures && hooked[0].times - before >= 100 && !state,
	   "a thread that waits for the lock has answered %llu times",
	   (unsigned long long)(hooked[0].times - before));
	shunt_port_unlock();
	(void)pthread_join(thread, NULL);
	ok(!result && call_it(1) == 12, "and then makes its update");
}

int test_restarted_calls(void)
{
	static void (*const calls[])(void) = {in_read, in_futex, in_timed_futex, in_nanosleep,
					      in_update};

	if (pipe(pipes))
		return 1;
	expect_restart("read", &calls[0], end_read);
	expect_restart("futex without a time limit", &calls[1], end_futex);
	expect_eintr("futex with a time limit", &calls[2]);
	expect_eintr("nanosleep", &calls[3]);
	expect_lock_waiter_answers(&calls[4]);
	ok(!hook_counts.missing, "no thread was left out");
	return tap_done();
}

/* ---------------------------------------------------------------------- processes */

static volatile int child_ret;

static void *in_vfork(void *arg)
{
	pid_t pid;

	(void)arg;
	atomic_store(&tid, raw_tid());
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	pid = vfork(); /* NOLINT: it is what is tested */
#pragma GCC diagnostic pop
	if (!pid) {
		char c;

		/* Not what POSIX allows here, but it is what is tested. */
		(void)syscall(SYS_read, pipes[0], &c, 1); /* NOLINT */
		child_ret = shunt_port_core_sync();       /* NOLINT */
		_exit(0);
	}
	(void)waitpid(pid, NULL, 0);
	atomic_store(&state, 1);
	return NULL;
}

static int fork_and_update(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(update_to(3) || call_it(1) != 13 || update_both(10));
	(void)waitpid(pid, &status, 0);
	return status;
}

int test_fork_vfork(void)
{
	struct timespec start, end;
	pthread_t thread;
	unsigned failures;

	ok(!update_both(1) && !fork_and_update() && !fork_and_update(),
	   "children of fork() update");
	ok(!update_both(10), "and so does the parent afterwards");

	if (pipe(pipes))
		return 1;
	(void)pthread_create(&thread, NULL, in_vfork, NULL);
	while (!atomic_load(&tid) || task_state(tid) != 'D')
		sched_yield();
	(void)clock_gettime(CLOCK_MONOTONIC, &start);
	failures = update_both(20);
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	ok(!failures && !state && task_state(tid) == 'D',
	   "a thread in vfork() need not answer: 40 updates in %ld ms, %u failures",
	   (long)(end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000,
	   failures);
	child_ret = 0;
	end_read();
	(void)pthread_join(thread, NULL);
	ok(child_ret == -EPERM, "the child of vfork() may not: %d", child_ret);
	ok(!update_both(10), "the parent goes on");
	return tap_done();
}

static void *without_leader(void *arg)
{
	(void)arg;
	while (task_state(getpid()) != 'Z')
		sched_yield();
	ok(!update_both(20), "the main thread has ended: updates work");
	exit(tap_done());
}

/* A thread of the kernel's in the process: it blocks all signals, and runs no code of ours. */
int test_io_uring(void)
{
	uint32_t params[30] = {[2] = 2 /* IORING_SETUP_SQPOLL */};
	long fd = syscall(SYS_io_uring_setup, 4, params);

	if (fd < 0) {
		skip("io_uring's thread", strerror(errno));
		return tap_done();
	}
	ok(!update_both(20), "io_uring's thread is not waited for%s%s",
	   hook_counts.failed ? ": " : "", hook_counts.failed ? shunt_last_error() : "");
	(void)close((int)fd);
	return tap_done();
}

int test_leader_exits(void)
{
	pthread_t thread;

	(void)pthread_create(&thread, NULL, without_leader, NULL);
	pthread_exit(NULL);
}
