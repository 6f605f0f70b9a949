/* SPDX-License-Identifier: MIT */
/*
 * Programs that block, handle, send and wait for SIGTRAP themselves. Each row is what the
 * kernel and the C library do where nobody is in between.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../api/tap.h"
#include "rows.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* ------------------------------------------------------------------------ helpers */

static _Atomic int seen, seen_code, seen_by;
static sigset_t mask_in_handler;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)context;
	CHECK(sig == SIGTRAP && info->si_signo == SIGTRAP);
	seen_code = info->si_code;
	seen_by = (int)syscall(SYS_gettid);
	pthread_sigmask(SIG_BLOCK, NULL, &mask_in_handler);
	seen++;
}

/* Handle SIGTRAP with @flags, and with SIGUSR1 in the mask. */
static void handle(int flags)
{
	struct sigaction act = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | flags};

	sigemptyset(&act.sa_mask);
	sigaddset(&act.sa_mask, SIGUSR1);
	CHECK(!sigaction(SIGTRAP, &act, NULL));
}

static void set_trap(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	CHECK(!pthread_sigmask(how, &set, NULL));
}

static bool is_blocked(int sig)
{
	sigset_t set;

	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &set));
	return sigismember(&set, sig);
}

static bool is_pending(void)
{
	sigset_t set;

	CHECK(!sigpending(&set));
	return sigismember(&set, SIGTRAP);
}

static void breakpoint(void)
{
	__asm__ volatile("int3" ::: "memory");
}

/* How a child ends that runs @fn. */
static int fate(void (*fn)(void))
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		fn();
		_exit(RIGHT);
	}
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static bool kills(void (*fn)(void))
{
	int status = fate(fn);

	return WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP;
}

/* -------------------------------------------------------------------------- masks */

static void mask_is_reported(void)
{
	sigset_t set, old;

	sigfillset(&set);
	CHECK(!is_blocked(SIGTRAP) && !pthread_sigmask(SIG_SETMASK, &set, &old));
	CHECK(!sigismember(&old, SIGTRAP) && is_blocked(SIGTRAP));
	CHECK(!sigprocmask(SIG_BLOCK, NULL, &old) && sigismember(&old, SIGTRAP));
	CHECK(sigblock(0) & 1 << (SIGTRAP - 1));
	set_trap(SIG_UNBLOCK);
	CHECK(!is_blocked(SIGTRAP) && is_blocked(SIGUSR1));
	CHECK(!sighold(SIGTRAP) && is_blocked(SIGTRAP) && !sigrelse(SIGTRAP));
	CHECK(!is_blocked(SIGTRAP));
	CHECK(sigset(SIGTRAP, SIG_HOLD) == SIG_DFL && is_blocked(SIGTRAP));
	CHECK(sigset(SIGTRAP, SIG_IGN) == SIG_HOLD && !is_blocked(SIGTRAP));
}

static volatile bool was_blocked;

static void note_mask(int sig)
{
	(void)sig;
	was_blocked = is_blocked(SIGTRAP);
}

static void sa_mask_is_reported(void)
{
	struct sigaction act = {.sa_handler = note_mask}, old;

	sigfillset(&act.sa_mask);
	CHECK(!sigaction(SIGUSR1, &act, NULL) && !sigaction(SIGUSR1, NULL, &old));
	CHECK(sigismember(&old.sa_mask, SIGTRAP) && old.sa_handler == note_mask);
	CHECK(!raise(SIGUSR1) && was_blocked && !is_blocked(SIGTRAP));
	sigdelset(&act.sa_mask, SIGTRAP);
	CHECK(!sigaction(SIGUSR1, &act, &old) && sigismember(&old.sa_mask, SIGTRAP));
	CHECK(!raise(SIGUSR1) && !was_blocked);
}

static void *note_blocked(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)is_blocked(SIGTRAP);
}

static void thread_inherits(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *blocked;
	sigset_t set;

	set_trap(SIG_BLOCK);
	CHECK(!pthread_create(&thread, NULL, note_blocked, NULL));
	CHECK(!pthread_join(thread, &blocked) && blocked);
	sigemptyset(&set);
	CHECK(!pthread_attr_init(&attr) && !pthread_attr_setsigmask_np(&attr, &set));
	CHECK(!pthread_create(&thread, &attr, note_blocked, NULL));
	CHECK(!pthread_join(thread, &blocked) && !blocked);
	sigaddset(&set, SIGTRAP);
	CHECK(!pthread_attr_setsigmask_np(&attr, &set));
	sigemptyset(&set);
	CHECK(!pthread_attr_getsigmask_np(&attr, &set) && sigismember(&set, SIGTRAP));
}

static void jump_restores(void)
{
	sigjmp_buf back;

	set_trap(SIG_BLOCK);
	if (!sigsetjmp(back, 1)) {
		set_trap(SIG_UNBLOCK);
		CHECK(!is_blocked(SIGTRAP));
		siglongjmp(back, 1);
	}
	CHECK(is_blocked(SIGTRAP));
}

/* ---------------------------------------------------------------------------- sent */

static void sent_is_held(void)
{
	handle(0);
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && !raise(SIGTRAP) && !seen && is_pending());
	set_trap(SIG_UNBLOCK);
	CHECK(seen == 1 && seen_code == SI_TKILL && !is_pending());
}

static void queued_keeps_its_value(void)
{
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	set_trap(SIG_BLOCK);
	CHECK(!sigqueue(getpid(), SIGTRAP, (union sigval){.sival_int = 4711}) && is_pending());
	CHECK(sigwaitinfo(&set, &info) == SIGTRAP && info.si_signo == SIGTRAP);
	CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 4711 && !is_pending());
}

static _Atomic bool over;
static _Atomic int its_tid;

static void *open_to_traps(void *arg)
{
	set_trap(SIG_UNBLOCK);
	its_tid = (int)syscall(SYS_gettid);
	AWAIT(seen || over);
	return arg;
}

/* Main blocks it: a signal to the process goes to the thread that does not. */
static void goes_to_who_is_open(void)
{
	pthread_t thread;

	handle(0);
	set_trap(SIG_BLOCK);
	CHECK(!pthread_create(&thread, NULL, open_to_traps, NULL));
	AWAIT(its_tid);
	CHECK(!kill(getpid(), SIGTRAP));
	AWAIT(seen);
	CHECK(!pthread_join(thread, NULL) && seen == 1 && seen_by == its_tid);
	CHECK(seen_code == SI_USER && !is_pending());
}

static void *wait_for_trap(void *arg)
{
	sigset_t set;
	int sig = 0;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	CHECK(!sigwait(&set, &sig) && sig == SIGTRAP);
	sig = 0;
	its_tid = (int)syscall(SYS_gettid);
	CHECK(!sigwait(&set, &sig));
	return (void *)(uintptr_t)sig;
}

/* One that is pending already, and one that is sent to who waits. */
static void is_waited_for(void)
{
	pthread_t thread;
	void *sig;

	set_trap(SIG_BLOCK);
	CHECK(!kill(getpid(), SIGTRAP) && is_pending());
	CHECK(!pthread_create(&thread, NULL, wait_for_trap, NULL));
	AWAIT(its_tid);
	CHECK(!kill(getpid(), SIGTRAP));
	CHECK(!pthread_join(thread, &sig) && sig == (void *)SIGTRAP && !is_pending());
}

/* Whether the thread sleeps, as the kernel tells. */
static bool sleeps(int tid)
{
	char path[64], line[512], *paren;
	FILE *file;
	bool asleep = false;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file)) {
		paren = strrchr(line, ')');
		asleep = paren && paren[2] == 'S';
	}
	fclose(file);
	return asleep;
}

static void *send_to_sleeper(void *arg)
{
	AWAIT(its_tid && sleeps(its_tid));
	CHECK(!syscall(SYS_tgkill, getpid(), its_tid, SIGTRAP));
	return arg;
}

/* A wait that lets in what is blocked outside: one pending, then one that comes. */
static void wait_opens(int (*wait)(const sigset_t *set))
{
	pthread_t thread;
	sigset_t none;

	sigemptyset(&none);
	handle(SA_RESTART);
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && !seen);
	CHECK(wait(&none) == -1 && errno == EINTR && seen == 1 && is_blocked(SIGTRAP));
	its_tid = 0;
	CHECK(!pthread_create(&thread, NULL, send_to_sleeper, NULL));
	its_tid = (int)syscall(SYS_gettid);
	CHECK(wait(&none) == -1 && errno == EINTR && seen == 2 && is_blocked(SIGTRAP));
	CHECK(!is_pending() && !pthread_join(thread, NULL));
}

static int poll_wait(const sigset_t *set)
{
	return ppoll(NULL, 0, NULL, set);
}

static void sigsuspend_opens(void)
{
	wait_opens(sigsuspend);
}

static void ppoll_opens(void)
{
	wait_opens(poll_wait);
}

/* And one that blocks what is open outside: it comes when the wait is over. */
static void ppoll_closes(void)
{
	struct timespec while_ = {.tv_nsec = 200000000};
	pthread_t thread;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	handle(0);
	CHECK(!pthread_create(&thread, NULL, send_to_sleeper, NULL));
	its_tid = (int)syscall(SYS_gettid);
	(void)ppoll(NULL, 0, &while_, &set);
	CHECK(!pthread_join(thread, NULL) && seen == 1 && !is_pending());
	CHECK(!sigismember(&mask_in_handler, SIGUSR2) && !is_blocked(SIGTRAP));
}

static void not_in_a_child(void)
{
	int status;
	pid_t child;

	handle(0);
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP));
	child = fork();
	if (!child) {
		bool right = !is_pending() && is_blocked(SIGTRAP);

		set_trap(SIG_UNBLOCK);
		right = right && !seen && !raise(SIGTRAP) && seen == 1;
		_exit(right ? RIGHT : WRONG);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0 && is_pending());
	child = vfork();
	if (!child) {
		signal(SIGTRAP, SIG_IGN);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	set_trap(SIG_UNBLOCK);
	CHECK(seen == 1);
}

/* ------------------------------------------------------------------------- handlers */

static void action_is_reported(void)
{
	struct sigaction old;

	CHECK(!sigaction(SIGTRAP, NULL, &old) && old.sa_handler == SIG_DFL);
	handle(SA_NODEFER | SA_RESTART);
	CHECK(!sigaction(SIGTRAP, NULL, &old) && old.sa_sigaction == on_trap);
	CHECK((old.sa_flags & ~0x04000000) == (SA_SIGINFO | SA_NODEFER | SA_RESTART));
	CHECK(sigismember(&old.sa_mask, SIGUSR1) && !sigismember(&old.sa_mask, SIGUSR2));
	CHECK(signal(SIGTRAP, note_mask) == (sighandler_t)(uintptr_t)on_trap);
	CHECK(!siginterrupt(SIGTRAP, 1) && !sigaction(SIGTRAP, NULL, &old));
	CHECK(old.sa_handler == note_mask && !(old.sa_flags & SA_RESTART));
	CHECK(sysv_signal(SIGTRAP, SIG_DFL) == note_mask && signal(SIGTRAP, SIG_IGN) == SIG_DFL);
	/* As the rest of this row's program would not be seen in a library that only strips. */
	set_trap(SIG_BLOCK);
	CHECK(is_blocked(SIGTRAP));
}

static void breakpoint_is_handled(void)
{
	handle(0);
	breakpoint();
	CHECK(seen == 1 && seen_code > 0);
	CHECK(sigismember(&mask_in_handler, SIGTRAP) && sigismember(&mask_in_handler, SIGUSR1));
	CHECK(!sigismember(&mask_in_handler, SIGUSR2) && !is_blocked(SIGUSR1));
	handle(SA_NODEFER);
	breakpoint();
	CHECK(seen == 2 && !sigismember(&mask_in_handler, SIGTRAP));
	CHECK(sigismember(&mask_in_handler, SIGUSR1) && !is_blocked(SIGUSR1));
	set_trap(SIG_BLOCK);
	CHECK(is_blocked(SIGTRAP));
}

static void handled_once(void)
{
	struct sigaction old;

	handle((int)SA_RESETHAND);
	breakpoint();
	CHECK(seen == 1 && !sigaction(SIGTRAP, NULL, &old) && old.sa_handler == SIG_DFL);
	CHECK(kills(breakpoint));
	handle((int)SA_RESETHAND);
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && seen == 1);
	set_trap(SIG_UNBLOCK);
	CHECK(seen == 2 && !sigaction(SIGTRAP, NULL, &old) && old.sa_handler == SIG_DFL);
}

static int ends[2];

static void *send_then_write(void *arg)
{
	AWAIT(sleeps(its_tid));
	CHECK(!syscall(SYS_tgkill, getpid(), its_tid, SIGTRAP));
	AWAIT(seen && sleeps(its_tid));
	CHECK(write(ends[1], "", 1) == 1);
	return arg;
}

/* A system call goes on after a handler, or does not, as SA_RESTART says. */
static void restarts_or_not(void)
{
	pthread_t thread;
	char byte;

	CHECK(!pipe(ends));
	its_tid = (int)syscall(SYS_gettid);
	handle(SA_RESTART);
	CHECK(!pthread_create(&thread, NULL, send_then_write, NULL));
	CHECK(read(ends[0], &byte, 1) == 1 && seen == 1 && !pthread_join(thread, NULL));
	seen = 0;
	its_tid = 0;
	handle(0);
	CHECK(!pthread_create(&thread, NULL, send_to_sleeper, NULL));
	its_tid = (int)syscall(SYS_gettid);
	CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR && seen == 1);
	CHECK(!pthread_join(thread, NULL));
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && seen == 1);
}

static void die_by_raise(void)
{
	(void)raise(SIGTRAP);
}

static void die_blocked(void)
{
	handle(0);
	set_trap(SIG_BLOCK);
	breakpoint();
}

static void die_ignoring(void)
{
	(void)signal(SIGTRAP, SIG_IGN);
	breakpoint();
}

static void die_later(void)
{
	set_trap(SIG_BLOCK);
	(void)raise(SIGTRAP);
	if (!is_pending())
		_exit(WRONG);
	set_trap(SIG_UNBLOCK);
}

static void kills_by_default(void)
{
	CHECK(kills(die_by_raise) && kills(breakpoint));
	CHECK(kills(die_blocked) && kills(die_ignoring) && kills(die_later));
}

static void ignored(void)
{
	CHECK(signal(SIGTRAP, SIG_IGN) == SIG_DFL && !raise(SIGTRAP));
	handle(0);
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && is_pending());
	CHECK(!sigignore(SIGTRAP) && !is_pending());
	handle(0);
	set_trap(SIG_UNBLOCK);
	CHECK(!seen);
}

/* What is blocked is kept, also while it is ignored: it can be waited for, and handled later. */
static void ignored_and_blocked(void)
{
	static const struct timespec none = {0, 0};
	sigset_t trap;

	sigemptyset(&trap);
	sigaddset(&trap, SIGTRAP);
	CHECK(!sigignore(SIGTRAP));
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && is_pending());
	CHECK(sigtimedwait(&trap, NULL, &none) == SIGTRAP && !is_pending());
	CHECK(!kill(getpid(), SIGTRAP) && is_pending());
	handle(0);
	CHECK(is_pending() && !seen);
	set_trap(SIG_UNBLOCK);
	CHECK(seen == 1 && !is_pending());
	CHECK(!sigignore(SIGTRAP));
	set_trap(SIG_BLOCK);
	CHECK(!raise(SIGTRAP) && is_pending());
	set_trap(SIG_UNBLOCK);
	CHECK(seen == 1 && !is_pending());
}

/* --------------------------------------------------------------------- cancellation */

static void *wait_in_sigsuspend(void *arg)
{
	sigset_t none;

	sigemptyset(&none);
	its_tid = (int)syscall(SYS_gettid);
	(void)sigsuspend(&none);
	return arg;
}

static void *wait_in_ppoll(void *arg)
{
	sigset_t none;

	sigemptyset(&none);
	its_tid = (int)syscall(SYS_gettid);
	(void)ppoll(NULL, 0, NULL, &none);
	return arg;
}

static void *wait_in_epoll(void *arg)
{
	struct epoll_event event;
	sigset_t none;
	int fd = epoll_create1(0);

	sigemptyset(&none);
	its_tid = (int)syscall(SYS_gettid);
	(void)epoll_pwait(fd, &event, 1, -1, &none);
	return arg;
}

static void waits_are_cancelled(void)
{
	static void *(*const waits[])(void *) = {wait_in_sigsuspend, wait_in_ppoll, wait_in_epoll};
	pthread_t thread;
	void *result;

	for (size_t i = 0; i < 3; i++) {
		its_tid = 0;
		CHECK(!pthread_create(&thread, NULL, waits[i], NULL));
		AWAIT(its_tid && sleeps(its_tid));
		CHECK(!pthread_cancel(thread) && !pthread_join(thread, &result));
		CHECK(result == PTHREAD_CANCELED);
	}
}

static sigjmp_buf out_of_wait;

static void jump_out(int sig)
{
	(void)sig;
	siglongjmp(out_of_wait, 1);
}

static int ends[2];

static void *interrupt_read(void *arg)
{
	int main_tid = (int)(intptr_t)arg;

	for (int i = 0; i < 24; i++) {
		AWAIT(its_tid == i + 1 && sleeps(main_tid));
		CHECK(!syscall(SYS_tgkill, getpid(), main_tid, SIGTRAP));
		CHECK(write(ends[1], "x", 1) == 1);
	}
	return NULL;
}

/* Reads from a pipe, with the stack so much deeper. */
static __attribute__((noinline)) void read_below(size_t bytes)
{
	volatile char *room = __builtin_alloca(bytes + 16);
	char c;

	room[0] = 0;
	its_tid++;
	while (read(ends[0], &c, 1) != 1) /* it may be interrupted, once */
		CHECK(errno == EINTR);
	room[bytes] = 0;
}

/* What was interrupted then is no wait: a SIGTRAP that is blocked is held. */
static void wait_is_left_by_jump(void)
{
	sigset_t none, set;
	pthread_t thread;
	siginfo_t info;

	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGTRAP);
	sigaddset(&set, SIGUSR1);
	handle(0);
	CHECK(!pipe(ends) && signal(SIGUSR1, jump_out) != SIG_ERR);
	CHECK(!pthread_sigmask(SIG_BLOCK, &set, NULL) && !raise(SIGUSR1));
	sigdelset(&set, SIGUSR1);
	if (!sigsetjmp(out_of_wait, 1))
		(void)sigsuspend(&none);
	CHECK(!pthread_create(&thread, NULL, interrupt_read,
			      (void *)(intptr_t)syscall(SYS_gettid)));
	for (size_t i = 0; i < 24; i++) {
		read_below(48 * i);
		CHECK(!seen && is_pending());
		CHECK(sigwaitinfo(&set, &info) == SIGTRAP);
	}
	CHECK(!pthread_join(thread, NULL));
}

/* Signals that the library keeps for itself, if any, are as those of the C library. */
static void has_no_more_signals(void)
{
	struct sigaction act = {.sa_handler = SIG_IGN};
	sigset_t set, old;

	sigfillset(&set);
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &old));
	for (int sig = SIGRTMAX + 1; sig < NSIG; sig++) {
		CHECK(sigaction(sig, &act, NULL) == -1 && errno == EINVAL);
		CHECK(sigismember(&old, sig) == 0);
	}
	CHECK(sigismember(&old, SIGRTMAX) == 1 && !sigaction(SIGRTMAX, &act, NULL));
}

const struct row programs[] = {
	{.name = "the mask is reported", .run = mask_is_reported},
	{.name = "signals above SIGRTMAX", .run = has_no_more_signals, .naive_too = true},
	{.name = "the mask of a handler is reported, and in force",
	 .run = sa_mask_is_reported,
	 .not_tsan = true},
	{.name = "a thread inherits the mask, or has its attribute's", .run = thread_inherits},
	{.name = "siglongjmp restores the mask", .run = jump_restores},
	{.name = "a sent one is held while it is blocked", .run = sent_is_held},
	{.name = "sigqueue, sigwaitinfo", .run = queued_keeps_its_value},
	{.name = "one for the process goes to who lets it in", .run = goes_to_who_is_open},
	{.name = "sigwait", .run = is_waited_for},
	{.name = "sigsuspend lets it in", .run = sigsuspend_opens},
	{.name = "ppoll lets it in", .run = ppoll_opens},
	{.name = "ppoll keeps it out", .run = ppoll_closes, .naive_too = true, .not_tsan = true},
	{.name = "fork and vfork", .run = not_in_a_child},
	{.name = "the action is reported", .run = action_is_reported, .not_tsan = true},
	{.name = "an int3 of the program's own", .run = breakpoint_is_handled, .not_tsan = true},
	{.name = "SA_RESETHAND", .run = handled_once},
	{.name = "SA_RESTART", .run = restarts_or_not},
	{.name = "the default action, blocked, ignored", .run = kills_by_default},
	{.name = "ignored, and nothing pending then", .run = ignored},
	{.name = "ignored and blocked: pending", .run = ignored_and_blocked},
	{.name = "siglongjmp out of sigsuspend", .run = wait_is_left_by_jump, .not_tsan = true},
	{.name = "waits are cancellation points",
	 .run = waits_are_cancelled,
	 .naive_too = true,
	 .not_asan = true},
	{0},
};
