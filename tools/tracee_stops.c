/* SPDX-License-Identifier: MIT */
/* The stops of a thread that is held by ptrace: tracee_stops.h. */
#include "tracee_stops.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proc_status.h"

enum { AWAKE_NS = 100000 };

int tracee_fail(struct tracee *t, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(t->why, sizeof(t->why), format, args);
	va_end(args);
	return err;
}

uint64_t tracee_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void tracee_step(const struct tracee *t)
{
#ifdef INJECT_DIE /* the tests: who is to die at this step, and at which; 0: the command */
	static int step;
	const char *victim = getenv("INJECT_VICTIM");

	if (++step == atoi(getenv("INJECT_DIE")))
		(void)kill(!victim ? getpid() : atoi(victim) ? atoi(victim) : getppid(), SIGKILL);
#endif
	(void)t;
}

int tracee_request(struct tracee *t, enum __ptrace_request what, void *address, void *data,
		   const char *name)
{
	int err;

	tracee_step(t);
	if (ptrace(what, t->tid, address, data) >= 0)
		return 0;
	err = errno;
	if (err == ESRCH) {
		t->is_seized = false;
		return tracee_fail(t, -ESRCH, "%s: thread %d is not there any more", name,
				   (int)t->tid);
	}
	return tracee_fail(t, -err, "%s of thread %d: %s", name, (int)t->tid, strerror(err));
}

int tracee_get_registers(struct tracee *t, struct user_regs_struct *regs)
{
	return tracee_request(t, PTRACE_GETREGS, NULL, regs, "PTRACE_GETREGS");
}

int tracee_set_registers(struct tracee *t, struct user_regs_struct *regs)
{
	return tracee_request(t, PTRACE_SETREGS, NULL, regs, "PTRACE_SETREGS");
}

/* Wait until the thread stops, or @until, ns: -ETIMEDOUT without words. */
int tracee_wait(struct tracee *t, uint64_t until, int *status)
{
	sigset_t child;

	const uint64_t awake = tracee_now() + AWAKE_NS;

	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	for (;;) {
		/* SIGCHLD is blocked, so none is lost; the limit is for those of other threads. */
		static const struct timespec slice = {.tv_nsec = 5000000};
		pid_t got = waitpid(t->tid, status, WNOHANG | __WALL);

		if (got == t->tid && WIFSTOPPED(*status)) {
			t->is_stopped = true;
			return 0;
		}
		if (got && !(got < 0 && errno == EINTR)) {
			t->is_seized = false;
			return tracee_fail(t, -ESRCH, "thread %d has ended meanwhile", (int)t->tid);
		}
		if (tracee_now() >= until)
			return -ETIMEDOUT;
		/* A thread that sleeps is stopped at once, and held for as long as this one takes
		 * to wake up. */
		if (tracee_now() < awake)
			(void)sched_yield();
		else
			(void)sigtimedwait(&child, NULL, &slice);
	}
}

int tracee_resume(struct tracee *t, enum __ptrace_request how, int signal)
{
	t->is_stopped = false;
	return tracee_request(t, how, NULL, tracee_data((uint64_t)signal), "PTRACE_CONT");
}

static bool is_caught(const struct tracee *t, int signal)
{
	struct proc_status status;

	(void)proc_status_read(t->tid, &status);
	return status.caught >> (signal - 1) & 1;
}

/*
 * What to do about a stop that is no system call's: 0, and @signal is to be given to the thread. A
 * group stop does not hold up a thread of ours; it is put back into it when it is released. Of
 * signals only one goes to the program: the trap of a debugger's or libshunt's int3.
 */
int tracee_judge_stop(struct tracee *t, int status, int *signal)
{
	static const int raised[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	int stopped = WSTOPSIG(status);

	*signal = 0;
	if (tracee_is_event_stop(status))
		return 0;
#ifdef INJECT_TAKES_SETXID /* the tests' control */
	if (stopped == 33) {
		*signal = stopped;
		return 0;
	}
#endif
	if (stopped == SIGTRAP && is_caught(t, stopped)) {
		*signal = stopped;
		return 0;
	}
	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++)
		if (stopped == raised[i])
			return tracee_fail(t, -EIO,
					   "what was called in thread %d raised signal %d (%s)",
					   (int)t->tid, stopped, strsignal(stopped));
	return 0;
}

/* Go on until the next stop at a system call's beginning or end. */
int tracee_run_to_syscall(struct tracee *t, uint64_t until)
{
	int signal = 0, status;

	for (;;) {
		int err = tracee_resume(t, PTRACE_SYSCALL, signal);

		if (!err)
			err = tracee_wait(t, until, &status);
		if (err || tracee_is_syscall_stop(status))
			return err;
		err = tracee_judge_stop(t, status, &signal);
		if (err)
			return err;
	}
}

/* Stop it, wherever it is: a stop from which a system call can be restarted. */
int tracee_interrupt(struct tracee *t, uint64_t until)
{
	int status, err = tracee_request(t, PTRACE_INTERRUPT, NULL, NULL, "PTRACE_INTERRUPT");

	if (!err && t->is_stopped)
		err = tracee_resume(t, PTRACE_CONT, 0);
	while (!err) {
		err = tracee_wait(t, until, &status);
		if (err || tracee_is_event_stop(status))
			break;
		/* A signal that came first is given to it: what is blocked does not come. */
		err = tracee_resume(t, PTRACE_CONT,
				    tracee_is_syscall_stop(status) ? 0 : WSTOPSIG(status));
	}
	return err;
}
