/* SPDX-License-Identifier: MIT */
/*
 * Rows: all signals are blocked, in every way that a program has, where a thread comes
 * through a site. Each time, a poke is held half way until the thread has been through: by
 * int3 that is a trap that nobody may take, and the kernel kills the process for it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

#define TIMES 300

/* -------------------------------------------------------------------- the meeting */

static struct row *row;
static _Atomic bool wanted; /* a poke is held, and waits for a thread to come through */

/* In the updater, half way: until somebody who blocks signals has been through. */
static void wait_for_visitor(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

/* Through the site, with all signals blocked, if a poke is waiting for it. */
static void visit(void)
{
	if (!atomic_load(&wanted))
		return;
	go_through(row);
	provoked(row, 1);
	atomic_store(&wanted, false);
}

static void update_and_meet(void)
{
	hold_next(wait_for_visitor, NULL);
	MUST(row, !try_update());
}

/* Updates, until it has been often enough; the others then end too. */
static void update_until_done(struct row *r)
{
	while (more(r))
		update_and_meet();
}

static sigset_t all(void)
{
	sigset_t set;

	(void)sigfillset(&set);
	return set;
}

/* What the control of each row is: the same without a mask, so that int3 holds too. */
static void *visit_until_done(void *arg)
{
	void (*block)(void) = NULL;

	memcpy(&block, arg, sizeof(block));
	if (block)
		block();
	while (more(row)) {
		visit();
		(void)sched_yield();
	}
	return NULL;
}

/* A thread that has done @block, beside the updates. */
static void meet_thread(struct row *r, const pthread_attr_t *attr, void (*block)(void))
{
	pthread_t thread;

	row = r;
	MUST(r, !pthread_create(&thread, attr, visit_until_done, &block));
	update_until_done(r);
	MUST(r, !pthread_join(thread, NULL));
}

/* -------------------------------------------------------------------- a thread's mask */

static void block_by_pthread(void)
{
	sigset_t set = all();

	MUST(row, !pthread_sigmask(SIG_SETMASK, &set, NULL));
}

static void block_by_process(void)
{
	sigset_t set = all();

	MUST(row, !sigprocmask(SIG_BLOCK, &set, NULL));
}

static void block_by_system_call(void)
{
	uint64_t set = ~0ull;

	MUST(row, !syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, sizeof(set)));
}

static void row_pthread_sigmask(struct row *r)
{
	meet_thread(r, NULL, block_by_pthread);
}

static void row_sigprocmask(struct row *r)
{
	meet_thread(r, NULL, block_by_process);
}

static void row_system_call(struct row *r)
{
	meet_thread(r, NULL, block_by_system_call);
}

static void row_attribute(struct row *r)
{
	sigset_t set = all();
	pthread_attr_t attr;

	MUST(r, !pthread_attr_init(&attr) && !pthread_attr_setsigmask_np(&attr, &set));
	meet_thread(r, &attr, NULL);
	MUST(r, !pthread_attr_destroy(&attr));
}

/* Nothing is blocked: by int3 too this holds, so it is the mask that kills. */
static void row_unblocked(struct row *r)
{
	if (r->is_control)
		take_poke_out();
	meet_thread(r, NULL, NULL);
}

/* ------------------------------------------------------------------------ handlers */

static void on_usr1(int sig)
{
	(void)sig;
	visit();
}

static void handle_usr1(const sigset_t *mask)
{
	struct sigaction act = {.sa_handler = on_usr1, .sa_mask = *mask};

	MUST(row, !sigaction(SIGUSR1, &act, NULL));
}

/* Sends SIGUSR1 to the thread that is to be met whenever a poke waits for it. */
static void send_when_wanted(void *arg)
{
	atomic_store(&wanted, true);
	while (atomic_load(&wanted)) {
		(void)pthread_kill(*(pthread_t *)arg, SIGUSR1);
		(void)sched_yield();
	}
}

static void *yield_until_done(void *arg)
{
	while (more(row))
		(void)sched_yield();
	return arg;
}

static void meet_handler(struct row *r, const sigset_t *mask, void *(*waits)(void *))
{
	pthread_t thread;

	row = r;
	handle_usr1(mask);
	MUST(r, !pthread_create(&thread, NULL, waits, NULL));
	while (more(r)) {
		hold_next(send_when_wanted, &thread);
		MUST(r, !try_update());
	}
	for (int i = 0; i < 10; i++) /* out of its last wait */
		(void)pthread_kill(thread, SIGUSR1);
	MUST(r, !pthread_join(thread, NULL));
}

static void row_sa_mask(struct row *r)
{
	sigset_t set = all();

	meet_handler(r, &set, yield_until_done);
}

/*
 * The waits with a mask of their own: outside of them SIGUSR1 is blocked, so that the handler
 * runs nowhere else. In it, everything is as in the wait.
 */
static sigset_t all_but_usr1(void)
{
	sigset_t set = all();

	(void)sigdelset(&set, SIGUSR1);
	return set;
}

static const struct timespec moment = {.tv_nsec = 100000000};

static void wait_sigsuspend(const sigset_t *set)
{
	(void)sigsuspend(set);
}

static void wait_ppoll(const sigset_t *set)
{
	(void)ppoll(NULL, 0, &moment, set);
}

static void wait_pselect(const sigset_t *set)
{
	(void)pselect(0, NULL, NULL, NULL, &moment, set);
}

static int epoll_fd;

static void wait_epoll(const sigset_t *set)
{
	struct epoll_event event;

	(void)epoll_pwait(epoll_fd, &event, 1, 100, set);
}

static void *wait_until_done(void *arg)
{
	void (*wait)(const sigset_t *) = NULL;
	sigset_t set = all_but_usr1(), usr1;

	memcpy(&wait, arg, sizeof(wait));
	(void)sigemptyset(&usr1);
	(void)sigaddset(&usr1, SIGUSR1);
	MUST(row, !pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	while (more(row))
		wait(&set);
	return NULL;
}

static void meet_wait(struct row *r, void (*wait)(const sigset_t *))
{
	sigset_t none;
	pthread_t thread;

	row = r;
	(void)sigemptyset(&none);
	handle_usr1(&none);
	MUST(r, !pthread_create(&thread, NULL, wait_until_done, &wait));
	while (more(r)) {
		hold_next(send_when_wanted, &thread);
		MUST(r, !try_update());
	}
	(void)pthread_kill(thread, SIGUSR1); /* blocked, then pending: ends the last wait */
	MUST(r, !pthread_join(thread, NULL));
}

static void row_sigsuspend(struct row *r)
{
	meet_wait(r, wait_sigsuspend);
}

static void row_ppoll(struct row *r)
{
	meet_wait(r, wait_ppoll);
}

static void row_pselect(struct row *r)
{
	meet_wait(r, wait_pselect);
}

static void row_epoll(struct row *r)
{
	epoll_fd = epoll_create1(0);
	meet_wait(r, wait_epoll);
}

/* ------------------------------------------------------------------------- timers */

/* glibc calls it in a thread of its own that blocks all signals. */
static void notified(union sigval value)
{
	(void)value;
	visit();
}

static void row_timer(struct row *r)
{
	struct itimerspec often = {{.tv_nsec = 1000000}, {.tv_nsec = 1000000}};
	struct sigevent event;
	timer_t timer;

	row = r;
	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD;
	event.sigev_notify_function = notified;
	MUST(r, !timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(r, !timer_settime(timer, 0, &often, NULL));
	update_until_done(r);
	MUST(r, !timer_delete(timer));
}

/* -------------------------------------------------------------------------- the rows */

#define CALLS "calls with all signals blocked, each in the middle of an update"
#define BLOCKS(id, what, fn, ...)                                                           \
	{                                                                                   \
		.name = "blocked-" id, .title = "blocks all signals: " what, .unit = CALLS, \
		.run = fn, .times = TIMES, .int3 = FAILS, .flip = true, __VA_ARGS__         \
	}

static struct row rows[] = {
	BLOCKS("pthread_sigmask", "pthread_sigmask", row_pthread_sigmask),
	BLOCKS("sigprocmask", "sigprocmask", row_sigprocmask),
	BLOCKS("system-call", "the system call rt_sigprocmask", row_system_call),
	BLOCKS("attribute", "pthread_attr_setsigmask_np", row_attribute),
	BLOCKS("sa_mask", "sa_mask of a handler", row_sa_mask, .not_tsan = true),
	BLOCKS("sigsuspend", "a handler in sigsuspend", row_sigsuspend, .not_tsan = true),
	BLOCKS("ppoll", "a handler in ppoll", row_ppoll, .not_tsan = true),
	BLOCKS("pselect", "a handler in pselect", row_pselect, .not_tsan = true),
	BLOCKS("epoll_pwait", "a handler in epoll_pwait", row_epoll, .not_tsan = true),
	BLOCKS("timer", "timer_create with SIGEV_THREAD", row_timer, .not_tsan = true),
	{.name = "unblocked",
	 .title = "blocks no signal (the same calls, for comparison)",
	 .unit = "calls in the middle of an update",
	 .run = row_unblocked,
	 .times = TIMES,
	 .int3 = HOLDS,
	 .atomic = true,
	 .flip = true,
	 .control = "no poke, torn writes"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
