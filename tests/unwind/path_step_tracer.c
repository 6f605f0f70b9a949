/* SPDX-License-Identifier: MIT */
/*
 * Single-stepping where a program cannot do it to itself: a child that traces the thread, from
 * the brk in path_step() to its end, and has it handle a SIGTRAP behind each instruction. The
 * handler itself is not stepped: its return to the kernel is waited for. One that does not return
 * goes on untraced when it unblocks signals.
 */
#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "paths.h"

#define AT_SYSCALL (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */

void path_step_begin(void);
extern const char path_step_end[];

/* With the tracer. */
static struct {
	_Atomic bool attached, stop;
} * shared;

void path_step_stop(void *context)
{
	(void)context;
	shared->stop = true;
}

/* ------------------------------------------------------------------- the tracer */

static struct user_regs_struct registers(pid_t tid)
{
	struct user_regs_struct regs;
	struct iovec whole = {&regs, sizeof(regs)};

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &whole))
		_exit(1);
	return regs;
}

static void skip_brk(pid_t tid)
{
	struct user_regs_struct regs = registers(tid);
	struct iovec whole = {&regs, sizeof(regs)};

	regs.pc += 4;
	(void)ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &whole);
}

static _Noreturn void leave(pid_t tid)
{
	_exit(ptrace(PTRACE_DETACH, tid, 0, 0) != 0);
}

/* Where a system call begins or ends, the one that ends a handler or another: what to do next. */
static int after_syscall(pid_t tid, bool *inside, bool *returns)
{
	struct user_regs_struct regs = registers(tid);

	*inside = !*inside;
	if (!*inside && *returns) {
		if (shared->stop)
			leave(tid);
		*returns = false;
		return PTRACE_SINGLESTEP;
	}
	if (*inside && regs.regs[8] == SYS_rt_sigprocmask && regs.regs[0] == SIG_UNBLOCK)
		leave(tid);
	if (*inside)
		*returns = regs.regs[8] == SYS_rt_sigreturn;
	return PTRACE_SYSCALL;
}

static _Noreturn void trace(pid_t tid)
{
	bool begun = false, inside = false, returns = false;
	int status;

	if (ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD))
		_exit(1);
	shared->attached = true;
	while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status), next = PTRACE_SYSCALL;

		if (sig == AT_SYSCALL) {
			next = after_syscall(tid, &inside, &returns);
			sig = 0;
		} else if (sig == SIGTRAP && !begun) {
			skip_brk(tid);
			begun = true;
			next = PTRACE_SINGLESTEP;
			sig = 0;
		} else if (sig == SIGTRAP && registers(tid).pc == (uintptr_t)path_step_end) {
			leave(tid);
		} else {
			inside = false;
		}
		if (ptrace(next, tid, 0, sig))
			break;
	}
	_exit(0);
}

/* ----------------------------------------------------------------- the thread */

void path_step_begin(void)
{
	static pid_t tracer;
	pid_t tid = gettid();

	if (tracer > 0)
		(void)waitpid(tracer, NULL, 0);
	if (!shared)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	shared->attached = shared->stop = false;
	tracer = fork();
	if (!tracer)
		trace(tid);
	(void)prctl(PR_SET_PTRACER, tracer, 0, 0, 0);
	while (!shared->attached) {
		int status;

		if (waitpid(tracer, &status, WNOHANG))
			abort();
		(void)sched_yield();
	}
}
