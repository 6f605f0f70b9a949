/* SPDX-License-Identifier: MIT */
/*
 * Holding a thread by ptrace. It is stopped on its way out of a system call that is to be
 * restarted: the kernel does that when the thread goes on from such a stop with the registers that
 * it had there, so that is where it is released, too.
 */
#include "tracee.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "proc_status.h"
#include "remote.h"
#include "tracee_frame.h"
#include "tracee_stops.h"

enum {
	STOP_MS = 2000,     /* for a thread to stop that sleeps */
	SYSCALL_MS = 10000, /* for mmap() and the like */
	STUCK_MS = 60000,   /* for a function that is about something else than a lock */
};

/* --------------------------------------------------------------------- its registers */

/* The thread's registers, at a `syscall` instruction, its own where there is no other that leads
 * back; where it does not restart anything. */
static struct user_regs_struct at_syscall(const struct tracee *t)
{
	struct user_regs_struct regs = t->regs;

	if (t->page)
		regs.rip = t->page + TRACEE_SYSCALL;
	else if (t->has_way) {
		regs.rip = t->way.call;
		regs.rsp = t->way.frame;
	} else
		regs.rip -= 2;
	regs.orig_rax = ~0ull;
	regs.eflags &= ~0x500ull; /* no single steps; strings go upwards */
	return regs;
}

/*
 * The registers with which it goes on. epoll_wait() and others return EINTR where the kernel does
 * not restart them: that is done here, but not where a signal waits that the program catches, for
 * which it may have to see it. Others say nothing: SIGCHLD, ignored, waits while its thread blocks
 * it.
 */
static struct user_regs_struct restarting(const struct tracee *t)
{
	struct user_regs_struct regs = t->regs;
	struct proc_status status;

#ifdef INJECT_NO_RESTART /* the tests' control */
	return regs;
#endif
#ifdef INJECT_ENDS_SLEEPS /* another: what the kernel restarts by restart_syscall(2) has ended */
	if ((int64_t)regs.rax == -516)
		regs.rax = (uint64_t)-EINTR;
#endif
	(void)proc_status_read(t->tid, &status);
	if ((int64_t)t->regs.orig_rax >= 0 && (int64_t)t->regs.rax == -EINTR &&
	    !(status.pending & status.caught & ~t->mask)) {
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
	int err =
		tracee_request(t, PTRACE_GETSIGMASK, tracee_data(8), &t->mask, "PTRACE_GETSIGMASK");

	if (err)
		return err;
	regs = restarting(t);
	if (regs.rip == t->regs.rip && !t->is_restarted)
		return 0;
	t->is_restarted = true;
	err = tracee_set_registers(t, &regs);
	return err ? err
		   : tracee_request(t, PTRACE_SETSIGMASK, tracee_data(8), &t->mask,
				    "PTRACE_SETSIGMASK");
}

/* -------------------------------------------------------------------- stop and save */

/* A thread that is ending, as each does when another one executes a program, is not permitted. */
static int seize(struct tracee *t)
{
	int err;

	for (int tries = 0; tries < 3; tries++) {
		err = tracee_request(t, PTRACE_SEIZE, NULL, tracee_data(PTRACE_O_TRACESYSGOOD),
				     "PTRACE_SEIZE");
		if (err != -EPERM)
			break;
		if (strchr("ZX", remote_thread_state(t->tid)))
			return -ESRCH;
	}
	return err;
}

int tracee_stop(struct tracee *t, const struct remote_space *space, pid_t tid)
{
	int err;

	memset(t, 0, sizeof(*t));
	t->space = space;
	t->tid = tid;
	err = seize(t);
	if (err)
		return err;
	t->is_seized = true;
	t->stopped = tracee_now();
	err = tracee_interrupt(t, t->stopped + STOP_MS * 1000000ull);
	if (err == -ETIMEDOUT)
		return tracee_fail(t, err, "thread %d does not stop", (int)tid);
	if (!err)
		err = tracee_get_registers(t, &t->regs);
#ifndef INJECT_LATE_RESTART /* the tests' control */
	/* The kernel has ended its call: so it would go on, should this program be killed now. */
	if (!err && (int64_t)t->regs.rax == -EINTR)
		err = put_back_stopped(t);
#endif
	return err;
}

int tracee_prepare(struct tracee *t)
{
/*
 * Not glibc's (33) for setuid() in all threads, whose handler makes system calls: those would be
 * taken for the ones that this program makes. Who has sent it waits until the thread is let go.
 */
#ifdef INJECT_TAKES_SETXID /* the tests' control */
	static const int open[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, 33};
#else
	static const int open[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
#endif
	struct iovec xstate = {t->xstate, sizeof(t->xstate)};
	uint64_t blocked = ~(uint64_t)0;
	int err;

	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		blocked &= ~((uint64_t)1 << (open[i] - 1));
	err = tracee_request(t, PTRACE_GETREGSET, tracee_data(NT_X86_XSTATE), &xstate,
			     "PTRACE_GETREGSET");
	if (!err)
		err = tracee_request(t, PTRACE_GETSIGMASK, tracee_data(8), &t->mask,
				     "PTRACE_GETSIGMASK");
	if (err)
		return err;
	t->xstate_size = xstate.iov_len;
#ifdef INJECT_TRUSTS_NUMBER /* the tests' control */
	t->number = t->regs.orig_rax;
#else
	t->number = tracee_first_number(t);
#endif
	t->is_saved = true;
	/* First what gives it its mask back. */
	err = tracee_open_way(t);
	if (!err && t->has_way) {
		struct user_regs_struct regs = at_syscall(t);

		regs.rax = SYS_munmap; /* of nothing */
		regs.rsi = 0;
		err = tracee_set_registers(t, &regs);
	}
	return err ? err
		   : tracee_request(t, PTRACE_SETSIGMASK, tracee_data(8), &blocked,
				    "PTRACE_SETSIGMASK");
}

/* ---------------------------------------------------------------------- what it runs */

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
	err = tracee_set_registers(t, &regs);
	if (!err)
		err = tracee_run_to_syscall(t, until); /* in */
	if (!err)
		err = tracee_run_to_syscall(t, until); /* out */
	if (!err)
		err = tracee_get_registers(t, &regs);
	if (err == -ETIMEDOUT)
		return tracee_fail(t, err, "system call %ld of thread %d does not end", number,
				   (int)t->tid);
	*result = (int64_t)regs.rax;
	/* Without what leads back: it makes the call that it slept in anew. */
	if (!err && !t->page && !t->has_way) {
		regs = at_syscall(t);
		regs.eflags = t->regs.eflags;
		regs.rax = t->number;
		err = tracee_set_registers(t, &regs);
	}
	return err;
}

/* -------------------------------------------------------------------------- calls */

/* Whether the thread, stopped in the middle of a call, was asleep on a lock. */
static bool waits_for_lock(struct tracee *t)
{
	struct user_regs_struct regs;

	return !tracee_get_registers(t, &regs) && regs.orig_rax == SYS_futex &&
	       (int64_t)regs.rax <= -512 && (int64_t)regs.rax >= -516;
}

/* Stop it where it is; @is_syscall: it came to a system call first. */
static int stop_late(struct tracee *t, bool *is_syscall)
{
	uint64_t until = tracee_now() + SYSCALL_MS * 1000000ull;
	int err = tracee_request(t, PTRACE_INTERRUPT, NULL, NULL, "PTRACE_INTERRUPT"), signal,
	    status;

	*is_syscall = false;
	while (!err) {
		err = tracee_wait(t, until, &status);
		if (err == -ETIMEDOUT)
			return tracee_fail(t, err, "thread %d does not stop", (int)t->tid);
		*is_syscall = !err && tracee_is_syscall_stop(status);
		if (err || *is_syscall || tracee_is_event_stop(status))
			break;
		err = tracee_judge_stop(t, status, &signal);
		if (!err)
			err = tracee_resume(t, PTRACE_SYSCALL, signal);
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
		return tracee_fail(t, -ETIMEDOUT, "a lock of libc stayed taken");
	if (tracee_now() - began > STUCK_MS * 1000000ull)
		return tracee_fail(t, -EIO, "what was called in thread %d did not return in %d s",
				   (int)t->tid, STUCK_MS / 1000);
	return 0;
}

/* Whether it is at the `syscall` instruction to which the function returns, with @stack in rsp. */
static int has_returned(struct tracee *t, uint64_t stack, bool *returned)
{
	struct __ptrace_syscall_info info = {0};
	int err = tracee_request(t, PTRACE_GET_SYSCALL_INFO, tracee_data(sizeof(info)), &info,
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
		int err = tracee_run_to_syscall(t, until);

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
	return tracee_get_registers(t, regs);
}

int tracee_call(struct tracee *t, uint64_t function, const uint64_t *arguments, unsigned limit_ms,
		uint64_t *result)
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
		return tracee_fail(t, err, "its memory: %s", strerror(-err));
	regs.rip = function;
	regs.rsp = stack;
	regs.rbp = 0;
	regs.rdi = arguments[0];
	regs.rsi = arguments[1];
	regs.rdx = arguments[2];
	regs.rcx = arguments[3];
	regs.rax = 0;
	err = tracee_set_registers(t, &regs);
	if (!err)
		err = run_to_return(t, stack + 8, limit_ms, &regs);
	if (err)
		return err;
	*result = t->page ? regs.rdi : regs.orig_rax;
	/* Without the page the result is in the place of a system call's number: one that does
	 * nothing, instead. */
	regs.orig_rax = SYS_munmap;
	regs.rsi = 0;
	err = tracee_set_registers(t, &regs);
	return err ? err : tracee_run_to_syscall(t, tracee_now() + SYSCALL_MS * 1000000ull);
}

/* ----------------------------------------------------------------------- the end */

static int put_back(struct tracee *t)
{
	struct iovec xstate = {t->xstate, t->xstate_size};
	struct user_regs_struct regs;
	int err = tracee_interrupt(t, tracee_now() + SYSCALL_MS * 1000000ull);

	if (err)
		return err;
	if (t->errno_at)
		(void)remote_write(t->space, t->errno_at, &t->errno_value, sizeof(t->errno_value));
	regs = restarting(t);
	err = tracee_request(t, PTRACE_SETREGSET, tracee_data(NT_X86_XSTATE), &xstate,
			     "PTRACE_SETREGSET");
	/* The registers last: until then something leads back that gives it its mask, too. */
	if (!err)
		err = tracee_request(t, PTRACE_SETSIGMASK, tracee_data(8), &t->mask,
				     "PTRACE_SETSIGMASK");
	if (!err)
		err = tracee_set_registers(t, &regs);
	if (!err)
		tracee_close_way(t);
	return err;
}

int tracee_halt(struct tracee *t)
{
	return t->is_stopped ? 0 : tracee_interrupt(t, tracee_now() + SYSCALL_MS * 1000000ull);
}

int tracee_release(struct tracee *t)
{
	int err;

	if (!t->is_seized)
		return 0;
	err = tracee_halt(t);
	if (!err)
		err = t->is_saved ? put_back(t) : put_back_stopped(t);
	tracee_step(t);
	if (t->is_seized && ptrace(PTRACE_DETACH, t->tid, NULL, NULL) && !err)
		err = -errno;
	t->is_seized = t->is_stopped = t->is_saved = t->has_way = false;
	free(t->kept);
	t->kept = NULL;
	return err;
}
