/* SPDX-License-Identifier: MIT */
/* Every way to be in the program's own code with SIGTRAP blocked, met by a poke. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../api/tap.h"
#include "rows.h"

static sigset_t all(void)
{
	sigset_t set;

	sigfillset(&set);
	return set;
}

static sigset_t all_but(int sig)
{
	sigset_t set = all();

	sigdelset(&set, sig);
	return set;
}

/* ------------------------------------------------------------------ a thread's mask */

static void by_pthread_sigmask(void)
{
	sigset_t set = all();

	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	meet();
}

static void by_sigprocmask(void)
{
	sigset_t set = all();

	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	meet();
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void by_sigblock(void)
{
	(void)sigblock(~0);
	meet();
}

static void by_sigsetmask(void)
{
	(void)sigsetmask(~0);
	meet();
}

static void by_sighold(void)
{
	CHECK(!sighold(SIGTRAP));
	meet();
}

static void by_sigset(void)
{
	CHECK(sigset(SIGTRAP, SIG_HOLD) != SIG_ERR);
	meet();
}

static void *just_meet(void *arg)
{
	meet();
	return arg;
}

static void by_attribute(void)
{
	sigset_t set = all();
	pthread_attr_t attr;
	pthread_t thread;

	CHECK(!pthread_attr_init(&attr) && !pthread_attr_setsigmask_np(&attr, &set));
	CHECK(!pthread_create(&thread, &attr, just_meet, NULL) && !pthread_join(thread, NULL));
}

static void by_parent_thread(void)
{
	sigset_t set = all();
	pthread_t thread;

	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	CHECK(!pthread_create(&thread, NULL, just_meet, NULL) && !pthread_join(thread, NULL));
}

static void by_parent_process(void)
{
	uint64_t trap = (uint64_t)1 << (SIGTRAP - 1);

	CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, &trap, NULL, sizeof(trap)));
	execl("/proc/self/exe", "test_signals", "meet", (char *)NULL);
	end(ABSENT);
}

static void by_system_call(void)
{
	uint64_t trap = (uint64_t)1 << (SIGTRAP - 1);

	CHECK(!syscall(SYS_rt_sigprocmask, SIG_BLOCK, &trap, NULL, sizeof(trap)));
	meet();
}

/* Hundreds of pokes beside thousands of calls, each with all signals blocked. */
#define POKES 500

static _Atomic bool over;
static _Atomic unsigned long calls;

static void *call_blocked(void *arg)
{
	sigset_t set = all(), old;

	while (!over) {
		CHECK(!pthread_sigmask(SIG_SETMASK, &set, &old));
		for (int i = 0; i < 10; i++) {
			go_through();
			calls++;
		}
		CHECK(!pthread_sigmask(SIG_SETMASK, &old, NULL));
	}
	return arg;
}

static void in_a_storm(void)
{
	unsigned long before = traps();
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, call_blocked, NULL));
	for (int i = 0; i < POKES; i++)
		poke_beside(&calls);
	over = true;
	CHECK(!pthread_join(thread, NULL) && traps() - before >= POKES);
}

/* ------------------------------------------------------------------------ handlers */

static void meet_in_handler(int sig)
{
	(void)sig;
	meet();
}

/* A handler of SIGUSR1 that meets, with @mask; SIGUSR1 is pending if all else is blocked. */
static void prepare(const sigset_t *mask)
{
	struct sigaction act = {.sa_handler = meet_in_handler, .sa_mask = *mask};

	CHECK(!sigaction(SIGUSR1, &act, NULL));
}

static void make_pending(void)
{
	sigset_t none, usr1;

	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	prepare(&none);
	CHECK(!pthread_sigmask(SIG_BLOCK, &usr1, NULL));
	CHECK(!pthread_kill(pthread_self(), SIGUSR1));
}

static void by_sa_mask(void)
{
	sigset_t set = all();

	prepare(&set);
	CHECK(!pthread_kill(pthread_self(), SIGUSR1));
}

static void by_sigsuspend(void)
{
	sigset_t set = all_but(SIGUSR1);

	make_pending();
	CHECK(sigsuspend(&set) == -1 && errno == EINTR);
}

static void by_sigpause(void)
{
	sigset_t set = all();

	make_pending();
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	CHECK(sigpause(SIGUSR1) == -1 && errno == EINTR);
}

static void by_ppoll(void)
{
	sigset_t set = all_but(SIGUSR1);

	make_pending();
	CHECK(ppoll(NULL, 0, NULL, &set) == -1 && errno == EINTR);
}

static void by_pselect(void)
{
	sigset_t set = all_but(SIGUSR1);

	make_pending();
	CHECK(pselect(0, NULL, NULL, NULL, NULL, &set) == -1 && errno == EINTR);
}

static void by_epoll_pwait(void)
{
	sigset_t set = all_but(SIGUSR1);
	struct epoll_event event;
	int fd = epoll_create1(0);

	make_pending();
	CHECK(epoll_pwait(fd, &event, 1, -1, &set) == -1 && errno == EINTR);
}

static void by_epoll_pwait2(void)
{
	sigset_t set = all_but(SIGUSR1);
	struct epoll_event event;
	int fd = epoll_create1(0);

	make_pending();
	CHECK(epoll_pwait2(fd, &event, 1, NULL, &set) == -1);
	if (errno == ENOSYS)
		end(ABSENT);
	CHECK(errno == EINTR);
}

/* ---------------------------------------------------------------------- callbacks */

static int token;

static void notified(union sigval value)
{
	CHECK(value.sival_ptr == &token);
	meet();
}

static struct sigevent event(void)
{
	struct sigevent e;

	memset(&e, 0, sizeof(e));
	e.sigev_notify = SIGEV_THREAD;
	e.sigev_notify_function = notified;
	e.sigev_value.sival_ptr = &token;
	return e;
}

static void by_timer(void)
{
	struct itimerspec soon = {.it_value.tv_nsec = 1000000};
	struct sigevent e = event();
	timer_t timer;

	CHECK(!timer_create(CLOCK_MONOTONIC, &e, &timer));
	CHECK(!timer_settime(timer, 0, &soon, NULL));
}

/* ------------------------------------------------------------------ jumps, contexts */

static void by_siglongjmp(void)
{
	sigset_t set = all(), none;
	sigjmp_buf back;

	sigemptyset(&none);
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, NULL));
	if (!sigsetjmp(back, 1)) {
		CHECK(!pthread_sigmask(SIG_SETMASK, &none, NULL));
		siglongjmp(back, 1);
	}
	meet();
}

static ucontext_t outside, within;
static char stack[65536];

static void in_context(void)
{
	meet();
}

static void make(void)
{
	CHECK(!getcontext(&within));
	within.uc_stack.ss_sp = stack;
	within.uc_stack.ss_size = sizeof(stack);
	within.uc_link = &outside;
	sigfillset(&within.uc_sigmask);
	makecontext(&within, in_context, 0);
}

static void by_swapcontext(void)
{
	make();
	CHECK(!swapcontext(&outside, &within));
}

static void by_setcontext(void)
{
	volatile bool been = false;

	make();
	CHECK(!getcontext(&outside));
	if (been)
		return;
	been = true;
	setcontext(&within);
	end(WRONG);
}

/* ------------------------------------------------------------ the program's handler */

/* Were it called, the poke's trap has come to the wrong one. */
static void stray(int sig)
{
	(void)sig;
	end(WRONG);
}

static void set_by_sigaction(void)
{
	struct sigaction act = {.sa_handler = stray};

	CHECK(!sigaction(SIGTRAP, &act, NULL));
}

static void set_by_signal(void)
{
	CHECK(signal(SIGTRAP, stray) != SIG_ERR);
}

static void set_by_sysv_signal(void)
{
	CHECK(sysv_signal(SIGTRAP, stray) != SIG_ERR);
}

static void set_by_sigset(void)
{
	CHECK(sigset(SIGTRAP, stray) != SIG_ERR);
}

static void set_by_sigignore(void)
{
	CHECK(!sigignore(SIGTRAP));
}

static void by_sigaction(void)
{
	meet_after(set_by_sigaction);
}

static void by_signal(void)
{
	meet_after(set_by_signal);
}

static void by_sysv_signal(void)
{
	meet_after(set_by_sysv_signal);
}

static void by_sigset_handler(void)
{
	meet_after(set_by_sigset);
}

static void by_sigignore(void)
{
	meet_after(set_by_sigignore);
}

/* ------------------------------------------------- handlers for all that it may have */

static _Atomic unsigned handled[NSIG], strays;

static void count_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_code == SI_TKILL) /* it was raised, and is not libshunt's */
		handled[sig]++;
	else
		strays++;
}

static void take_all(void)
{
	struct sigaction act = {.sa_sigaction = count_signal, .sa_flags = SA_SIGINFO};
	sigset_t set = all(), old;

	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		CHECK(!sigaction(sig, &act, NULL));
	CHECK(!pthread_sigmask(SIG_SETMASK, &set, &old));
	meet();
	CHECK(!pthread_sigmask(SIG_SETMASK, &old, NULL));
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		CHECK(!raise(sig) && handled[sig] == 1);
	CHECK(!strays);
}

const struct row pokes[] = {
	{.name = "pthread_sigmask", .blocks_all = true, .run = by_pthread_sigmask},
	{.name = "sigprocmask", .blocks_all = true, .run = by_sigprocmask},
	{.name = "sigblock", .run = by_sigblock},
	{.name = "sigsetmask", .run = by_sigsetmask},
	{.name = "sighold", .run = by_sighold},
	{.name = "sigset", .run = by_sigset},
	{.name = "pthread_attr_setsigmask_np", .blocks_all = true, .run = by_attribute},
	{.name = "a thread of a thread that blocks all",
	 .blocks_all = true,
	 .run = by_parent_thread},
	{.name = "a program of a process that blocks all",
	 .run = by_parent_process,
	 .main_thread = true},
	{.name = "sa_mask", .blocks_all = true, .run = by_sa_mask},
	{.name = "a handler in sigsuspend", .blocks_all = true, .run = by_sigsuspend},
	{.name = "a handler in sigpause", .blocks_all = true, .run = by_sigpause, .not_tsan = true},
	{.name = "a handler in ppoll", .blocks_all = true, .run = by_ppoll},
	{.name = "a handler in pselect", .blocks_all = true, .run = by_pselect, .not_tsan = true},
	{.name = "a handler in epoll_pwait", .blocks_all = true, .run = by_epoll_pwait},
	{.name = "a handler in epoll_pwait2",
	 .blocks_all = true,
	 .run = by_epoll_pwait2,
	 .not_tsan = true},
	{.name = "timer_create, SIGEV_THREAD",
	 .blocks_ever = true,
	 .run = by_timer,
	 .main_thread = true,
	 .not_tsan = true},
	{.name = "siglongjmp", .blocks_all = true, .run = by_siglongjmp},
	{.name = "swapcontext", .blocks_all = true, .run = by_swapcontext},
	{.name = "setcontext", .blocks_all = true, .run = by_setcontext},
	{.name = "a handler set by sigaction in mid-poke", .run = by_sigaction, .survives = true},
	{.name = "a handler set by signal in mid-poke", .run = by_signal, .survives = true},
	{.name = "a handler set by sysv_signal in mid-poke",
	 .run = by_sysv_signal,
	 .survives = true},
	{.name = "a handler set by sigset in mid-poke", .run = by_sigset_handler, .survives = true},
	{.name = "SIGTRAP ignored in mid-poke", .run = by_sigignore, .survives = true},
	{.name = "500 pokes, all signals blocked",
	 .blocks_all = true,
	 .lets_in = true,
	 .run = in_a_storm,
	 .alone = true},
	{.name = "all signals blocked, all real-time ones handled",
	 .run = take_all,
	 .blocks_all = true},
#ifdef SIGNALS_CXX
	{.name = "C++: a thread that blocks all, and throws", .blocks_all = true, .run = by_cxx},
#endif
	{.name = "a mask set by a raw system call kills", .run = by_system_call, .dies = true},
	{0},
};
