/* SPDX-License-Identifier: MIT */
/*
 * Rows: the program has a SIGTRAP handler of its own, sends SIGTRAP, and has breakpoints,
 * while another thread comes through a site in the middle of each update. The handler must see
 * each of its own traps, no other, with the flags and the mask that it asked for.
 */
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "hostile.h"

#ifndef TRAP_PERF
#define TRAP_PERF 6
#endif

static struct row *row;
static _Atomic bool wanted;

/* ------------------------------------------------------------------- its own traps */

enum source { RAISED, QUEUED, BREAKPOINT, WATCHPOINT, SOURCES };

static _Atomic uint64_t sent[SOURCES], seen[SOURCES];
static _Atomic uint64_t strays;
static volatile long watched; /* the debug register's */
extern const char own_breakpoint_end[];

/* An int3 of the program's own; the handler finds the address after it. */
static KEEP void breakpoint(void)
{
	__asm__ volatile("int3\n"
			 ".globl own_breakpoint_end\n"
			 "own_breakpoint_end:"
			 :
			 :
			 : "memory");
}

static enum source source_of(const siginfo_t *info, const ucontext_t *uc)
{
	if (info->si_code == SI_TKILL)
		return RAISED;
	if (info->si_code == SI_QUEUE && info->si_value.sival_int == 77)
		return QUEUED;
	if (info->si_code == SI_KERNEL &&
	    uc->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)own_breakpoint_end)
		return BREAKPOINT;
	if (info->si_code == TRAP_PERF)
		return WATCHPOINT;
	return SOURCES;
}

/* In the handler: SIGTRAP, and what sa_mask said, and nothing else. */
static bool is_mask_right(void)
{
	sigset_t now;

	(void)pthread_sigmask(SIG_BLOCK, NULL, &now);
	return sigismember(&now, SIGTRAP) && sigismember(&now, SIGUSR2) &&
	       !sigismember(&now, SIGUSR1) && !sigismember(&now, SIGALRM);
}

static void on_own(int sig, siginfo_t *info, void *context)
{
	enum source source = source_of(info, context);

	if (source == SOURCES || sig != SIGTRAP)
		atomic_fetch_add(&strays, 1);
	else
		atomic_fetch_add(&seen[source], 1);
	MUST(row, is_mask_right());
}

static void install(void)
{
	struct sigaction act = {.sa_sigaction = on_own, .sa_flags = SA_SIGINFO};

	(void)sigemptyset(&act.sa_mask);
	(void)sigaddset(&act.sa_mask, SIGUSR2);
	MUST(row, !sigaction(SIGTRAP, &act, NULL));
}

/* Each must have come by the time that it returns: the traps are this thread's own. */
static void trap_by(enum source source)
{
	union sigval value = {.sival_int = 77};
	uint64_t then = atomic_load(&seen[source]);

	atomic_fetch_add(&sent[source], 1);
	if (source == RAISED)
		(void)pthread_kill(pthread_self(), SIGTRAP);
	else if (source == QUEUED)
		(void)pthread_sigqueue(pthread_self(), SIGTRAP, value);
	else if (source == BREAKPOINT)
		breakpoint();
	else
		watched = watched + 1;
	MUST(row, atomic_load(&seen[source]) >= then + 1);
}

/* A debug register on @watched, through perf; -1 where that is not to be had. */
static int watch(void)
{
	struct perf_event_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.type = PERF_TYPE_BREAKPOINT;
	attr.size = sizeof(attr);
	attr.sample_period = 1;
	attr.bp_type = 2; /* HW_BREAKPOINT_W */
	attr.bp_addr = (uintptr_t)&watched;
	attr.bp_len = sizeof(watched);
	attr.exclude_kernel = 1;
	attr.exclude_hv = 1;
	attr.remove_on_exec = 1;
	attr.sigtrap = 1;
	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0ul);
}

/* With the program's handler alone: some virtual machines open debug registers that never trap. */
static bool has_watchpoints(struct row *r)
{
	int fd;

	row = r;
	install();
	fd = watch();
	if (fd < 0)
		return false;
	watched = watched + 1;
	(void)close(fd);
	return atomic_exchange(&seen[WATCHPOINT], 0);
}

/* ------------------------------------------------------------------- the meetings */

static void wait_for_visitor(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

/* In the middle of an update: through the site, and own traps before and after. */
static void visit(enum source last)
{
	if (!atomic_load(&wanted))
		return;
	for (enum source s = RAISED; s <= last; s++)
		trap_by(s);
	go_through(row);
	for (enum source s = RAISED; s <= last; s++)
		trap_by(s);
	provoked(row, 1);
	atomic_store(&wanted, false);
}

static void *trap_until_done(void *arg)
{
	enum source last = BREAKPOINT;
	int fd = arg ? watch() : -1;

	if (fd >= 0)
		last = WATCHPOINT;
	while (more(row)) {
		visit(last);
		(void)sched_yield();
	}
	if (fd >= 0)
		(void)close(fd);
	return NULL;
}

/* Into the middle of an update: a handler that comes in front of Shunt's own. */
static void install_and_wait(void *arg)
{
	install();
	wait_for_visitor(arg);
}

static void run(struct row *r, void (*half_way)(void *), bool by_hardware)
{
	pthread_t thread;

	row = r;
	install();
	MUST(r, !try_update()); /* Shunt's handler, where it has one, is in front now */
	MUST(r, !pthread_create(&thread, NULL, trap_until_done, by_hardware ? row : NULL));
	while (more(r)) {
		hold_next(half_way, NULL);
		MUST(r, !try_update());
		MUST(r, !atomic_load(&strays));
	}
	MUST(r, !pthread_join(thread, NULL));
	for (enum source s = RAISED; s < SOURCES; s++)
		MUST(r, atomic_load(&seen[s]) == atomic_load(&sent[s]));
}

static void row_before(struct row *r)
{
	run(r, r->is_control ? install_and_wait : wait_for_visitor, false);
}

static void row_hardware(struct row *r)
{
	if (!has_watchpoints(r))
		skip_row(r, "no debug register through perf_event_open() that traps");
	run(r, r->is_control ? install_and_wait : wait_for_visitor, true);
}

static void row_after(struct row *r)
{
	run(r, install_and_wait, false);
}

#define CONTROL .control = "handler put in front in mid-update", .control_by_int3 = true
#define UNIT    "calls in the middle of an update, amid 6 or more traps of its own"

static struct row rows[] = {
	{.name = "own-handler",
	 .title = "has a SIGTRAP handler, raises and queues SIGTRAP, runs int3 of its own",
	 .unit = UNIT,
	 .run = row_before,
	 .times = 500,
	 .flip = true,
	 .not_tsan = true,
	 CONTROL},
	{.name = "own-handler-after",
	 .title = "the same, and installs its handler again in the middle of each update",
	 .unit = UNIT,
	 .run = row_after,
	 .times = 500,
	 .flip = true,
	 .int3 = FAILS,
	 .not_tsan = true},
	{.name = "hardware-breakpoint",
	 .title = "the same, with a hardware breakpoint (perf_event_open, sigtrap)",
	 .unit = UNIT,
	 .run = row_hardware,
	 .times = 500,
	 .flip = true,
	 .not_tsan = true,
	 CONTROL},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
