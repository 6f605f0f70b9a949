/* SPDX-License-Identifier: MIT */
/*
 * Holding a thread by ptrace. It is stopped on its way out of a system call that is to be
 * restarted: the kernel does that when the thread goes on from such a stop with the registers that
 * it had there, so that is where it is released, too.
 */
#include "tracee.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	STOP_MS = 2000,     /* for a thread to stop that sleeps */
	SYSCALL_MS = 10000, /* for mmap() and the like */
	STUCK_MS = 60000,   /* for a function that is about something else than a lock */
	SIGSETXID = 33,     /* glibc's, for setuid() in all threads: its sender waits for it */
};

static int fail(struct tracee *t, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct tracee *t, int err, const char *format, ...)
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

/* -------------------------------------------------------------------------- ptrace */

static int request(struct tracee *t, enum __ptrace_request what, void *address, void *data,
		   const char *name)
{
	int err;

	if (ptrace(what, t->tid, address, data) >= 0)
		return 0;
	err = errno;
	if (err == ESRCH) {
		t->is_seized = false;
		return fail(t, -ESRCH, "it has ended, or executed another program, meanwhile");
	}
	return fail(t, -err, "%s of thread %d: %s", name, (int)t->tid, strerror(err));
}

static void *as_data(uint64_t value)
{
	return (void *)(uintptr_t)value; /* NOLINT(performance-no-int-to-ptr): ptrace's way */
}

static int get_registers(struct tracee *t, struct user_regs_struct *regs)
{
	return request(t, PTRACE_GETREGS, NULL, regs, "PTRACE_GETREGS");
}

static int set_registers(struct tracee *t, struct user_regs_struct *regs)
{
	return request(t, PTRACE_SETREGS, NULL, regs, "PTRACE_SETREGS");
}

/* Wait until the thread stops, or @until, ns: -ETIMEDOUT without words. */
static int wait_for_stop(struct tracee *t, uint64_t until, int *status)
{
	sigset_t child;

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
			return fail(t, -ESRCH, "thread %d has ended meanwhile", (int)t->tid);
		}
		if (tracee_now() >= until)
			return -ETIMEDOUT;
		(void)sigtimedwait(&child, NULL, &slice);
	}
}

static int resume(struct tracee *t, enum __ptrace_request how, int signal)
{
#ifdef INJECT_DIE /* the tests: it is killed before this step */
	static int step;
	if (++step == atoi(getenv("INJECT_DIE")) && (t->page || INJECT_DIE))
		(void)raise(SIGKILL);
#endif
	t->is_stopped = false;
	return request(t, how, NULL, as_data((uint64_t)signal), "PTRACE_CONT");
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

static bool is_syscall_stop(int status)
{
	return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* What /proc says of its signals: the caught ones, and those that wait for it. */
static void get_signals(const struct tracee *t, uint64_t *caught, uint64_t *pending)
{
	uint64_t own = 0, shared = 0;
	char path[64], line[256];
	FILE *file;

	*caught = 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)t->tid);
	file = fopen(path, "re");
	/* NOLINTBEGIN(cert-err34-c): numbers of the kernel's */
	while (file && fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "SigCgt: %" SCNx64, caught);
		(void)sscanf(line, "SigPnd: %" SCNx64, &own);
		(void)sscanf(line, "ShdPnd: %" SCNx64, &shared);
	}
	/* NOLINTEND(cert-err34-c) */
	if (file)
		(void)fclose(file);
	*pending = own | shared;
}

static bool is_caught(const struct tracee *t, int signal)
{
	uint64_t caught, pending;

	get_signals(t, &caught, &pending);
	return caught >> (signal - 1) & 1;
}

/*
 * What to do about a stop that is no system call's: 0, and @signal is to be given to the thread. A
 * group stop does not hold up a thread of ours; it is put back into it when it is released. Of
 * signals only those go to the program that it waits for by itself: setuid() in another thread, and
 * the trap of a debugger's or libshunt's int3.
 */
static int judge_stop(struct tracee *t, int status, int *signal)
{
	static const int raised[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	int stopped = WSTOPSIG(status);

	*signal = 0;
	if (is_event_stop(status))
		return 0;
	if ((stopped == SIGSETXID || stopped == SIGTRAP) && is_caught(t, stopped)) {
		*signal = stopped;
		return 0;
	}
	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++)
		if (stopped == raised[i])
			return fail(t, -EIO, "what was called in thread %d raised signal %d (%s)",
				    (int)t->tid, stopped, strsignal(stopped));
	return 0;
}

/* Go on until the next stop at a system call's beginning or end. */
static int run_to_syscall(struct tracee *t, uint64_t until)
{
	int signal = 0, status;

	for (;;) {
		int err = resume(t, PTRACE_SYSCALL, signal);

		if (!err)
			err = wait_for_stop(t, until, &status);
		if (err || is_syscall_stop(status))
			return err;
		err = judge_stop(t, status, &signal);
		if (err)
			return err;
	}
}

/* Stop it, wherever it is: a stop from which a system call can be restarted. */
static int interrupt(struct tracee *t, uint64_t until)
{
	int status, err = request(t, PTRACE_INTERRUPT, NULL, NULL, "PTRACE_INTERRUPT");

	if (!err && t->is_stopped)
		err = resume(t, PTRACE_CONT, 0);
	while (!err) {
		err = wait_for_stop(t, until, &status);
		if (err || is_event_stop(status))
			break;
		/* A signal that came first is given to it: what is blocked does not come. */
		err = resume(t, PTRACE_CONT, is_syscall_stop(status) ? 0 : WSTOPSIG(status));
	}
	return err;
}

/* -------------------------------------------------------------------- stop and save */

int tracee_stop(struct tracee *t, const struct remote_space *space, pid_t tid)
{
	int err;

	memset(t, 0, sizeof(*t));
	t->space = space;
	t->tid = tid;
	err = request(t, PTRACE_SEIZE, NULL, as_data(PTRACE_O_TRACESYSGOOD), "PTRACE_SEIZE");
	if (err)
		return err;
	t->is_seized = true;
	t->stopped = tracee_now();
	err = interrupt(t, t->stopped + STOP_MS * 1000000ull);
	if (err == -ETIMEDOUT)
		return fail(t, err, "thread %d does not stop", (int)tid);
	return err ? err : get_registers(t, &t->regs);
}

int tracee_prepare(struct tracee *t)
{
	static const int open[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGSETXID};
	struct iovec xstate = {t->xstate, sizeof(t->xstate)};
	uint64_t blocked = ~(uint64_t)0;
	int err;

	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		blocked &= ~((uint64_t)1 << (open[i] - 1));
	err = request(t, PTRACE_GETREGSET, as_data(NT_X86_XSTATE), &xstate, "PTRACE_GETREGSET");
	if (!err)
		err = request(t, PTRACE_GETSIGMASK, as_data(8), &t->mask, "PTRACE_GETSIGMASK");
	if (err)
		return err;
	t->xstate_size = xstate.iov_len;
	t->is_saved = true;
	return request(t, PTRACE_SETSIGMASK, as_data(8), &blocked, "PTRACE_SETSIGMASK");
}

/* ---------------------------------------------------------------------- what it runs */

/* The thread's registers, at its `syscall` instruction, where it does not restart anything. */
static struct user_regs_struct at_syscall(const struct tracee *t)
{
	struct user_regs_struct regs = t->regs;

	regs.rip = t->page ? t->page + TRACEE_SYSCALL : regs.rip - 2;
	regs.orig_rax = ~0ull;
	regs.eflags &= ~0x500ull; /* no single steps; strings go upwards */
	return regs;
}

int tracee_syscall(struct tracee *t, long number, const uint64_t arguments[6], int64_t *result)
{
	struct user_regs_struct regs = at_syscall(t);
	uint64_t until = tracee_now() + SYSCALL_MS * 1000000ull;
	int err;

	regs.rax = (uint64_t)number;
	regs.rdi = arguments[0];
	regs.rsi = arguments[1];
	regs.rdx = arguments[2];
	regs.r10 = arguments[3];
	regs.r8 = arguments[4];
	regs.r9 = arguments[5];
	err = set_registers(t, &regs);
	if (!err)
		err = run_to_syscall(t, until); /* in */
	if (!err)
		err = run_to_syscall(t, until); /* out */
	if (!err)
		err = get_registers(t, &regs);
	if (err == -ETIMEDOUT)
		return fail(t, err, "system call %ld of thread %d does not end", number,
			    (int)t->tid);
	*result = (int64_t)regs.rax;
	/* Without a page that leads back: it makes the call that it slept in anew. */
	if (!err && !t->page) {
		regs = at_syscall(t);
		regs.eflags = t->regs.eflags;
		regs.rax = t->regs.orig_rax;
		err = set_registers(t, &regs);
	}
	return err;
}

/* -------------------------------------------------------------------------- calls */

/* Whether the thread, stopped in the middle of a call, was asleep on a lock. */
static bool waits_for_lock(struct tracee *t)
{
	struct user_regs_struct regs;

	return !get_registers(t, &regs) && regs.orig_rax == SYS_futex &&
	       (int64_t)regs.rax <= -512 && (int64_t)regs.rax >= -516;
}

/* Stop it where it is; @is_syscall: it came to a system call first. */
static int stop_late(struct tracee *t, bool *is_syscall)
{
	uint64_t until = tracee_now() + SYSCALL_MS * 1000000ull;
	int err = request(t, PTRACE_INTERRUPT, NULL, NULL, "PTRACE_INTERRUPT"), signal, status;

	*is_syscall = false;
	while (!err) {
		err = wait_for_stop(t, until, &status);
		if (err == -ETIMEDOUT)
			return fail(t, err, "thread %d does not stop", (int)t->tid);
		*is_syscall = !err && is_syscall_stop(status);
		if (err || *is_syscall || is_event_stop(status))
			break;
		err = judge_stop(t, status, &signal);
		if (!err)
			err = resume(t, PTRACE_SYSCALL, signal);
	}
	return err;
}

/* The time is up. 0: go on; -ETIMEDOUT: it sleeps on a lock; -EIO: there is no patience left. */
static int look_at_late(struct tracee *t, uint64_t began, bool *is_syscall)
{
	int err = stop_late(t, is_syscall);

	if (err)
		return err;
	/* Where it was asleep that is the end of its system call, which is to be restarted. */
	if (waits_for_lock(t))
		return fail(t, -ETIMEDOUT, "a lock of libc stayed taken");
	if (tracee_now() - began > STUCK_MS * 1000000ull)
		return fail(t, -EIO, "what was called in thread %d did not return in %d s",
			    (int)t->tid, STUCK_MS / 1000);
	return 0;
}

/* Whether it is at the `syscall` instruction to which the function returns, with @stack in rsp. */
static int has_returned(struct tracee *t, uint64_t stack, bool *returned)
{
	struct __ptrace_syscall_info info = {0};
	int err = request(t, PTRACE_GET_SYSCALL_INFO, as_data(sizeof(info)), &info,
			  "PTRACE_GET_SYSCALL_INFO");

	*returned = info.op == PTRACE_SYSCALL_INFO_ENTRY && info.stack_pointer == stack &&
		    info.instruction_pointer == (t->page ? t->page + TRACEE_RETURNED : t->regs.rip);
	return err;
}

static int run_to_return(struct tracee *t, uint64_t stack, unsigned limit_ms,
			 struct user_regs_struct *regs)
{
	uint64_t began = tracee_now(), until = began + limit_ms * 1000000ull;
	bool is_syscall, returned = false;

	while (!returned) {
		int err = run_to_syscall(t, until);

		is_syscall = !err;
		if (err == -ETIMEDOUT) {
			err = look_at_late(t, began, &is_syscall);
			until = tracee_now() + limit_ms * 1000000ull;
		}
		if (!err && is_syscall)
			err = has_returned(t, stack, &returned);
		if (err)
			return err;
	}
	return get_registers(t, regs);
}

int tracee_call(struct tracee *t, uint64_t function, uint64_t first, uint64_t second,
		unsigned limit_ms, uint64_t *result)
{
	/* As behind a call: the stack is 8 below a multiple of 16. */
#ifdef INJECT_ON_STACK /* the tests' control */
	uint64_t stack = ((t->regs.rsp - 8) & ~15ull) - 8;
#else
	uint64_t stack = t->stack + TRACEE_STACK - 256 - 8;
#endif
	uint64_t to = t->page ? t->page : t->regs.rip - 2;
	struct user_regs_struct regs = at_syscall(t);
	int err = remote_write(t->space, stack, &to, sizeof(to));

	if (err)
		return fail(t, err, "its memory: %s", strerror(-err));
	regs.rip = function;
	regs.rsp = stack;
	regs.rbp = 0;
	regs.rdi = first;
	regs.rsi = second;
	regs.rax = 0;
	err = set_registers(t, &regs);
	if (!err)
		err = run_to_return(t, stack + 8, limit_ms, &regs);
	if (err)
		return err;
	*result = t->page ? regs.rdi : regs.orig_rax;
	/* Without the page the result is in the place of a system call's number: one that does
	 * nothing, instead. */
	regs.orig_rax = SYS_munmap;
	regs.rsi = 0;
	err = set_registers(t, &regs);
	return err ? err : run_to_syscall(t, tracee_now() + SYSCALL_MS * 1000000ull);
}

/* ----------------------------------------------------------------------- the end */

/*
 * The registers with which it goes on. epoll_wait() and others return EINTR where the kernel does
 * not restart them: that is done here, but not where a signal waits that the program catches, for
 * which it may have to see it. Others say nothing: SIGCHLD, ignored, waits while its thread blocks
 * it.
 */
static struct user_regs_struct restarting(const struct tracee *t)
{
	struct user_regs_struct regs = t->regs;
	uint64_t caught, pending;

#ifdef INJECT_NO_RESTART /* the tests' control */
	return regs;
#endif
	get_signals(t, &caught, &pending);
	if ((int64_t)regs.orig_rax >= 0 && (int64_t)regs.rax == -EINTR &&
	    !(pending & caught & ~t->mask)) {
		regs.rip -= 2;
		regs.rax = regs.orig_rax;
		regs.orig_rax = ~0ull;
	}
	return regs;
}

/* As it was, behind a stop alone: a mask for the time of the system call comes with that again. */
static int put_back_stopped(struct tracee *t)
{
	struct user_regs_struct regs;
	int err = request(t, PTRACE_GETSIGMASK, as_data(8), &t->mask, "PTRACE_GETSIGMASK");

	if (err)
		return err;
	regs = restarting(t);
	if (regs.rip == t->regs.rip)
		return 0;
	err = set_registers(t, &regs);
	return err ? err : request(t, PTRACE_SETSIGMASK, as_data(8), &t->mask, "PTRACE_SETSIGMASK");
}

static int put_back(struct tracee *t)
{
	struct iovec xstate = {t->xstate, t->xstate_size};
	struct user_regs_struct regs;
	int err = interrupt(t, tracee_now() + SYSCALL_MS * 1000000ull);

	if (err)
		return err;
	regs = restarting(t);
	err = request(t, PTRACE_SETREGSET, as_data(NT_X86_XSTATE), &xstate, "PTRACE_SETREGSET");
	if (!err)
		err = set_registers(t, &regs);
	if (!err)
		err = request(t, PTRACE_SETSIGMASK, as_data(8), &t->mask, "PTRACE_SETSIGMASK");
	return err;
}

int tracee_halt(struct tracee *t)
{
	return t->is_stopped ? 0 : interrupt(t, tracee_now() + SYSCALL_MS * 1000000ull);
}

int tracee_release(struct tracee *t)
{
	int err;

	if (!t->is_seized)
		return 0;
	err = tracee_halt(t);
	if (!err)
		err = t->is_saved ? put_back(t) : put_back_stopped(t);
	if (t->is_seized && ptrace(PTRACE_DETACH, t->tid, NULL, NULL) && !err)
		err = -errno;
	t->is_seized = t->is_stopped = t->is_saved = false;
	return err;
}
