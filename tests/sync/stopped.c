/* SPDX-License-Identifier: MIT */
/*
 * Threads that do not run, or wait for signals, or are born, in the middle of a core sync
 * by signals. What must hold: the update ends, and either has reached every thread or
 * says which one it has not; it is right once the thread goes on.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "sync.h"

static _Atomic long tid;
static _Atomic bool over;
static _Atomic long last; /* result of the thread's last call */
static _Atomic uint64_t rounds;

static void block_all(int how)
{
	uint64_t all = ~0ull;

	(void)syscall(SYS_rt_sigprocmask, how, &all, NULL, sizeof(all));
}

static void await_tid(void)
{
	while (!atomic_load(&tid))
		sched_yield();
}

static bool names(long thread, const char *what)
{
	char who[64];

	(void)snprintf(who, sizeof(who), "thread %ld, which %s", thread, what);
	return strstr(shunt_last_error(), who) != NULL;
}

static uint64_t milliseconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------ it waits for all */

static _Atomic int got;

/* As programs do that handle signals in a thread of their own. */
static void *sigwait_all(void *arg)
{
	sigset_t set;
	int sig = 0;

	(void)arg;
	hook_thread(0);
	block_all(SIG_BLOCK);
	sigfillset(&set);
	atomic_store(&tid, raw_tid());
	(void)sigwait(&set, &sig);
	atomic_store(&got, sig);
	block_all(SIG_UNBLOCK);
	while (!atomic_load(&over))
		sched_yield();
	unhook_thread(0);
	return NULL;
}

static _Atomic unsigned waits;

static void count_waits(void)
{
	atomic_fetch_add(&waits, 1);
}

/* On a busy machine: it blocks the signal at each look, and may be in a handler all the time. */
static void test_starved(void)
{
	pthread_t thread;
	unsigned first;
	int ret;

	tid = 0;
	got = 0;
	over = false;
	(void)pthread_create(&thread, NULL, sigwait_all, NULL);
	await_tid();
	wait_until_asleep(tid);
	hook_starves = true;
	hook_clock_rate = 20;
	hook_wait = count_waits;
	ret = update_to(1);
	first = atomic_exchange(&waits, 0);
	ok(ret == -EAGAIN && names(tid, "blocks it"), "one that hardly runs: %d, %s, %u waits", ret,
	   shunt_last_error(), first);
	ok(first > 20 && update_to(1) == -EAGAIN && waits < first / 4,
	   "and is not waited for again: %u waits", waits);
	hook_wait = NULL;
	hook_clock_rate = 1;
	hook_starves = false;
	(void)pthread_kill(thread, SIGUSR1);
	over = true;
	(void)pthread_join(thread, NULL);
}

static enum shunt_task look_open(int32_t thread, enum shunt_task task)
{
	return thread == tid && task == SHUNT_TASK_BLOCKS ? SHUNT_TASK_OPEN : task;
}

int test_sigwait(void)
{
	pthread_t thread;
	int ret;

	(void)pthread_create(&thread, NULL, sigwait_all, NULL);
	await_tid();
	wait_until_asleep(tid);
	ret = update_to(1);
	ok(ret == -EAGAIN && names(tid, "blocks it"), "a thread in sigwait() for all: %d, %s", ret,
	   shunt_last_error());
	ok(!got && call_it(1) == 10, "it has been given no signal of ours: %d", got);
	(void)pthread_kill(thread, SIGUSR1);
	while (!got)
		sched_yield();
	ok(got == SIGUSR1, "its own signal it gets");
	ok(!update_to(1) && call_it(1) == 11, "it has left: the update works");
	ok(!hook_counts.missing, "no thread was left out");
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);

	tid = 0;
	got = 0;
	over = false;
	hook_look = look_open;
	(void)pthread_create(&thread, NULL, sigwait_all, NULL);
	await_tid();
	wait_until_asleep(tid);
	(void)update_to(2);
	hook_look = NULL;
	ok(got == chosen_signal(), "control: taken for one that answers, it reads signal %d", got);
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
	test_starved();
	return tap_done();
}

/* -------------------------------------------------------------------------- SIGSTOP */

#define STOPPED_MS 1500 /* more than anybody waits for a thread that blocks the signal */

static _Atomic bool unblock;
static bool never, is_stopped;
static unsigned looks; /* at the thread */

static void *block_until_told(void *arg)
{
	(void)arg;
	hook_thread(0);
	block_all(SIG_BLOCK);
	atomic_store(&tid, raw_tid());
	while (!atomic_load(&unblock))
		sched_yield();
	block_all(SIG_UNBLOCK);
	while (!atomic_load(&over))
		sched_yield();
	unhook_thread(0);
	return NULL;
}

static enum shunt_task count_looks(int32_t thread, enum shunt_task task)
{
	looks += thread == tid;
	return task;
}

/*
 * In the round, when the thread has been seen to block the signal, and is waited for: stop
 * the process. Let the thread in some looks after it goes on.
 */
static void stop_in_round(void)
{
	if (looks == 2 && !is_stopped) {
		is_stopped = true;
		(void)kill(getpid(), SIGSTOP);
	}
	if (looks == 5 && !never)
		atomic_store(&unblock, true);
}

/* 0: the update has worked; 1: it has said who blocks the signal; 2: neither. */
static int update_stopped(void)
{
	pthread_t thread;
	int ret;

	(void)pthread_create(&thread, NULL, block_until_told, NULL);
	await_tid();
	hook_look = count_looks;
	hook_wait = stop_in_round;
	ret = update_to(1);
	hook_wait = NULL;
	hook_look = NULL;
	if (!ret)
		return call_it(1) == 11 && !hook_counts.missing ? 0 : 2;
	return ret == -EAGAIN && names(tid, "blocks it") && call_it(1) == 10 ? 1 : 2;
}

static int run_stopped(bool is_control)
{
	uint64_t then;
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		never = is_control;
		_exit(update_stopped());
	}
	(void)waitpid(pid, &status, WUNTRACED);
	if (!WIFSTOPPED(status))
		return -1;
	then = milliseconds();
	while (milliseconds() - then < STOPPED_MS)
		sched_yield();
	(void)kill(pid, SIGCONT);
	(void)waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int test_stopped(void)
{
	int status = run_stopped(false);

	ok(status == 0, "the process is stopped for %d ms in a round: the update works (%d)",
	   STOPPED_MS, status);
	status = run_stopped(true);
	ok(status == 1, "control: the thread never lets it in: the update says so (%d)", status);
	return tap_done();
}

/* --------------------------------------------------------------------------- ptrace */

static int to_tracer[2], from_tracer[2];

static void *run_calls(void *arg)
{
	(void)arg;
	hook_thread(0);
	atomic_store(&tid, raw_tid());
	while (!atomic_load(&over)) {
		atomic_store(&last, call_it(1));
		atomic_fetch_add(&rounds, 1);
	}
	unhook_thread(0);
	return NULL;
}

/* Two rounds of the thread from now on. */
static void await_rounds(void)
{
	uint64_t now = atomic_load(&rounds);

	while (atomic_load(&rounds) < now + 2)
		sched_yield();
}

static void say(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(3);
}

static void hear(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(3);
}

/* Let the thread run until told to stop it again; @eaten: a signal that it is not to get. */
static void pass_signals(pid_t thread, int eaten)
{
	int status, flags = 1;

	(void)ptrace(PTRACE_CONT, thread, 0, 0);
	say(from_tracer[1]);
	while (flags) {
		char c;

		if (waitpid(thread, &status, __WALL | WNOHANG) == thread) {
			long sig = status >> 16 || WSTOPSIG(status) == eaten ? 0 : WSTOPSIG(status);

			(void)ptrace(PTRACE_CONT, thread, 0, sig);
		}
		flags = recv(to_tracer[0], &c, 1, MSG_DONTWAIT) != 1;
		(void)sched_yield();
	}
	(void)ptrace(PTRACE_INTERRUPT, thread, 0, 0);
	while (waitpid(thread, &status, __WALL) == thread && status >> 16 != PTRACE_EVENT_STOP) {
		long sig = WSTOPSIG(status) == eaten ? 0 : WSTOPSIG(status);

		(void)ptrace(PTRACE_CONT, thread, 0, sig);
	}
}

/* Another process: stops the thread; lets it run; stops it; leaves it. Each when told. */
static int trace(pid_t thread, int eaten)
{
	int status;

	hear(to_tracer[0]);
	if (ptrace(PTRACE_SEIZE, thread, 0, 0) || ptrace(PTRACE_INTERRUPT, thread, 0, 0))
		return 1;
	(void)waitpid(thread, &status, __WALL);
	say(from_tracer[1]);
	hear(to_tracer[0]);
	pass_signals(thread, eaten);
	(void)ptrace(PTRACE_DETACH, thread, 0, 0);
	say(from_tracer[1]);
	return 0;
}

static pid_t start_tracer(pthread_t *thread, int eaten)
{
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, to_tracer) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, from_tracer))
		_exit(3);
	(void)pthread_create(thread, NULL, run_calls, NULL);
	await_tid();
	pid = fork();
	if (!pid)
		_exit(trace((pid_t)tid, eaten));
	return pid;
}

/* Whether the tracer has gone a step further. */
static bool step_tracer(void)
{
	char c;

	return write(to_tracer[1], "x", 1) == 1 && read(from_tracer[0], &c, 1) == 1;
}

static void finish_tracer(pid_t tracer, pthread_t thread)
{
	(void)waitpid(tracer, NULL, 0);
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
}

static enum shunt_task look_not_held(int32_t thread, enum shunt_task task)
{
	return thread == tid && task == SHUNT_TASK_HELD ? SHUNT_TASK_BLOCKS : task;
}

static uint64_t held; /* a tracer stops it for each signal, another one being pending */

static enum shunt_task count_held(int32_t thread, enum shunt_task task)
{
	held += thread == tid && task == SHUNT_TASK_HELD;
	return task;
}

int test_debugged(void)
{
	pthread_t thread;
	pid_t tracer;
	unsigned failures = 0;
	uint64_t then, missing;

	/* The tracer passes all signals on. */
	tracer = start_tracer(&thread, 0);
	ok(!update_to(3), "a thread that answers");
	await_rounds(); /* not to stop it in a signal handler of ours: there it blocks all */
	ok(step_tracer() && task_state(tid) == 't', "it is stopped by a tracer");
	then = rounds;
	for (int i = 0; i < 50; i++)
		failures += update_to(1) || update_to(2);
	ok(!failures && rounds == then && hook_counts.missing == 300,
	   "100 updates beside it, %u failures; of 300 rounds it has answered %d%s%s", failures,
	   300 - (int)hook_counts.missing, failures ? ": " : "",
	   failures ? shunt_last_error() : "");
	hook_look = look_not_held;
	ok(update_to(3) == -EAGAIN, "control: it is waited for: %s", shunt_last_error());
	hook_look = NULL;
	ok(step_tracer(), "it goes on, traced");
	await_rounds();
	missing = hook_counts.missing;
	hook_look = count_held;
	ok(last == 12, "and calls the last function that was set (%ld)", last);
	for (int i = 0; i < 50; i++)
		failures += update_to(1) || update_to(3);
	await_rounds();
	ok(!failures && last == 13, "100 updates beside the traced thread, %u failures", failures);
	ok(step_tracer(), "the tracer leaves");
	ok(!update_to(0) && call_it(1) == 10, "updates work");
	missing = hook_counts.missing - missing;
	ok(missing <= held, "in %llu rounds it has not answered, in %llu it was stopped then",
	   (unsigned long long)missing, (unsigned long long)held);
	finish_tracer(tracer, thread);
	return tap_done();
}

/* A tracer that keeps the signal from the thread: nobody waits for ever. */

/* By the clock of the updates, which wait for 10 s; of what lies between two looks 0.1 s count. */
static uint64_t looked_at, looked_for; /* ns */
#define LOOK_COUNTS UINT64_C(100000000)
#define FOR_EVER    UINT64_C(40000000000)

/* Where it is looked at for ever it has gone in the end, and the update succeeds. */
static enum shunt_task look_for_long(enum shunt_task task)
{
	uint64_t time = shunt_clock(), since = time - looked_at;

	looked_for += !looked_at ? 0 : since < LOOK_COUNTS ? since : LOOK_COUNTS;
	looked_at = time;
	return looked_for < FOR_EVER ? task : SHUNT_TASK_GONE;
}

static enum shunt_task look_held(int32_t thread, enum shunt_task task)
{
	return thread == tid ? look_for_long(count_held(thread, task)) : task;
}

static enum shunt_task look_running(int32_t thread, enum shunt_task task)
{
	return thread == tid ? look_for_long(SHUNT_TASK_OPEN) : task;
}

int test_signal_consumed(void)
{
	pthread_t thread;
	pid_t tracer;
	int ret;

	(void)update_to(1); /* which chooses the signal */
	tracer = start_tracer(&thread, 64);
	ok(chosen_signal() == 64 && !update_to(0), "a thread that answers");
	ok(step_tracer(), "it is stopped by a tracer");
	ok(step_tracer(), "and goes on; signal 64 is kept from it");
	hook_look = look_held;
	atomic_store(&hook_clock_rate, 8);
	ret = update_to(1);
	hook_look = NULL;
	/* 0: it was seen stopped, with another one pending; what then runs it is the kernel's. */
	ok((ret == -EAGAIN && names(tid, "does not answer")) || (!ret && held),
	   "an update ends: %d, %s", ret, shunt_last_error());
	await_rounds();
	ok(call_it(1) == (ret ? 10 : 11) && last == call_it(1), "and is made, or not at all");
	/* Never seen to be stopped, it is waited for until there is no more patience. */
	looked_for = looked_at = 0;
	hook_look = look_running;
	ok(update_to(2) == -EAGAIN && names(tid, "does not answer"),
	   "an update ends though it is never seen to be stopped: %s", shunt_last_error());
	hook_look = NULL;
	atomic_store(&hook_clock_rate, 1);
	ok(step_tracer() && !update_to(1) && call_it(1) == 11,
	   "the tracer leaves: the update works");
	finish_tracer(tracer, thread);
	return tap_done();
}

/* --------------------------------------------------------------------------- births */

static bool says_complete;
static unsigned lists_cut;

/* A listing that ended early, as where the thread that it stood at has ended. */
static void cut_list(struct shunt_tasks *tasks)
{
	if (lists_cut++ % 2 || tasks->n < 2)
		return;
	tasks->n--;
	tasks->complete = says_complete;
}

static void *just_run(void *arg)
{
	unblock_signals();
	hook_thread((unsigned)(uintptr_t)arg);
	while (!atomic_load(&over))
		sched_yield();
	unhook_thread((unsigned)(uintptr_t)arg);
	return NULL;
}

#define BORN 8
static pthread_t born[BORN];
static _Atomic unsigned nr_born;

/* A thread in each round, behind the listing, or before the one that is made again. */
static void bear(struct shunt_tasks *tasks)
{
	unsigned n = atomic_load(&nr_born);

	if (lists_cut % 2 == 0 && n < BORN) {
		(void)pthread_create(&born[n], NULL, just_run, (void *)(uintptr_t)(n + 1));
		while (!atomic_load(&hooked[n + 1].present))
			sched_yield();
		atomic_store(&nr_born, n + 1);
	}
	cut_list(tasks);
}

int test_new_threads(void)
{
	unsigned failures = 0;
	uint64_t lists;
	pthread_t thread;

	(void)pthread_create(&thread, NULL, just_run, NULL);
	while (!atomic_load(&hooked[0].present))
		sched_yield();
	lists = hook_counts.lists;
	hook_list = bear;
	for (int i = 0; i < 20; i++)
		failures += update_to(1) || update_to(0);
	hook_list = NULL;
	ok(!failures && nr_born == BORN, "%u threads are born in the middle of a round, each",
	   nr_born);
	ok(hook_counts.lists - lists >= 80 && !hook_counts.missing,
	   "lists that are not complete are made again: %llu lists, %llu threads missing",
	   (unsigned long long)(hook_counts.lists - lists),
	   (unsigned long long)hook_counts.missing);
	says_complete = true;
	hook_list = cut_list;
	(void)update_to(1);
	(void)update_to(0);
	hook_list = NULL;
	ok(hook_counts.missing > 0, "control: taken for complete, they leave out %llu threads",
	   (unsigned long long)hook_counts.missing);
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
	for (unsigned i = 0; i < nr_born; i++)
		(void)pthread_join(born[i], NULL);
	return tap_done();
}
