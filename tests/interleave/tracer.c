/* SPDX-License-Identifier: MIT */
/*
 * ptrace: lets a thread execute one instruction, takes its whole state out, and
 * puts one in again. What a thread is to user space are its registers, its stack and
 * its signal mask, so a thread that is put back into an earlier state is one that
 * has been delayed since.
 *
 * Two things that the kernel does need care. A breakpoint and a single step both
 * come as SIGTRAP: the siginfo tells them apart, and the breakpoint's is passed on.
 * And a single step of a thread that blocks SIGTRAP resets the program's handler: so
 * while the runner is in the handler, the tracer unblocks this one signal.
 */
#include <elf.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "interleave.h"

#define SIGTRAP_BIT ((uint64_t)1 << (SIGTRAP - 1))
#define RED_ZONE    128
#define TRAP_FLAG   0x100ul /* of RFLAGS */

static siginfo_t breakpoint; /* what an int3 of the runner came with */

/* ---------------------------------------------------------------- the process */

static enum il_stopped wait_for(struct il_tracer *t, pid_t tid)
{
	siginfo_t info;
	int status = 0;

	if (waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status)) {
		t->forbidden = WIFEXITED(status) && WEXITSTATUS(status) == IL_NO_PTRACE;
		return IL_GONE;
	}
	t->signal = WSTOPSIG(status);
	if (t->signal == SIGSTOP)
		return IL_STOPPED;
	if (t->signal != SIGTRAP)
		return IL_SIGNAL;
	if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info))
		return IL_GONE;
	/* The stop at a handler's first instruction is no signal. */
	if (tid == t->runner)
		t->can_inject = info.si_code != SIGTRAP;
	if (info.si_code != SI_KERNEL)
		return IL_STEPPED;
	breakpoint = info;
	return IL_INT3;
}

enum il_stopped il_step_thread(struct il_tracer *t, pid_t tid, int sig)
{
	if (ptrace(PTRACE_SINGLESTEP, tid, NULL, (void *)(long)sig))
		return IL_GONE;
	return wait_for(t, tid);
}

bool il_continue(struct il_tracer *t)
{
	return !ptrace(PTRACE_CONT, t->updater, NULL, NULL) &&
	       wait_for(t, t->updater) == IL_STOPPED;
}

void il_peek(struct il_tracer *t, const void *addr, void *to, size_t len)
{
	struct iovec local = {to, len}, remote = {(void *)(uintptr_t)addr, len};

	if (process_vm_readv(t->updater, &local, 1, &remote, 1, 0) != (ssize_t)len)
		memset(to, 0, len);
}

bool il_start(struct il_tracer *t)
{
	memset(t, 0, sizeof(*t));
	t->updater = fork();
	if (!t->updater)
		il_tracee();
	if (t->updater < 0 || wait_for(t, t->updater) != IL_STOPPED ||
	    ptrace(PTRACE_SETOPTIONS, t->updater, NULL, (void *)PTRACE_O_EXITKILL))
		return false;
	/* The runner has been there before: a sanitizer makes threads of its own, too. */
	il_peek(t, (const void *)&il_runner, &t->runner, sizeof(t->runner));
	return !ptrace(PTRACE_ATTACH, t->runner, NULL, NULL) &&
	       wait_for(t, t->runner) == IL_STOPPED;
}

void il_kill(struct il_tracer *t)
{
	int status;

	if (t->updater <= 0)
		return;
	(void)kill(t->updater, SIGKILL);
	/* The runner first: a leader's end is not reported while others are. */
	if (t->runner > 0)
		while (waitpid(t->runner, &status, __WALL) == t->runner && WIFSTOPPED(status))
			;
	while (waitpid(t->updater, &status, __WALL) == t->updater && WIFSTOPPED(status))
		;
}

/* ------------------------------------------------------------ the runner's state */

static void set_mask(struct il_tracer *t, uint64_t mask)
{
	(void)ptrace(PTRACE_SETSIGMASK, t->runner, (void *)sizeof(mask), &mask);
}

uint64_t il_mask(struct il_tracer *t)
{
	uint64_t mask = 0;

	(void)ptrace(PTRACE_GETSIGMASK, t->runner, (void *)sizeof(mask), &mask);
	return mask;
}

static void set_registers(struct il_tracer *t, const struct il_state *s)
{
	struct user_regs_struct regs = s->regs;

	regs.orig_rax = ~0ull; /* not in a system call that is to be restarted */
	(void)ptrace(PTRACE_SETREGS, t->runner, NULL, &regs);
}

void il_save(struct il_tracer *t, struct il_state *s)
{
	uintptr_t top = (uintptr_t)(il_stack + IL_STACK), low;

	(void)ptrace(PTRACE_GETREGS, t->runner, NULL, &s->regs);
	(void)ptrace(PTRACE_GETFPREGS, t->runner, NULL, &s->fp);
	s->regs.orig_rax = 0;
	low = s->regs.rsp - RED_ZONE;
	if (low < (uintptr_t)il_stack || low > top)
		low = top; /* a runner that is lost; its rip or rsp will be seen to be */
	s->len = (uint32_t)(top - low);
	il_peek(t, (const void *)low, s->stack + (IL_STACK - s->len), s->len);
}

/* Write @s's stack, and zeros where it has nothing: states are compared as bytes. */
static void write_stack(struct il_tracer *t, const struct il_state *s)
{
	static const uint8_t zeros[IL_STACK];
	struct iovec local[2] = {
		{(void *)(uintptr_t)zeros, IL_STACK - s->len},
		{(void *)(uintptr_t)(s->stack + (IL_STACK - s->len)), s->len},
	};
	struct iovec remote = {il_stack, IL_STACK};

	(void)process_vm_writev(t->updater, local, 2, &remote, 1, 0);
}

void il_restore(struct il_tracer *t, const struct il_state *s)
{
	if (s->pending && !t->can_inject) {
		/* Execute a nop: its stop takes a signal. */
		struct user_regs_struct regs = s->regs;

		regs.orig_rax = ~0ull;
		regs.rip = (uint64_t)il_park;
		set_mask(t, 0);
		(void)ptrace(PTRACE_SETREGS, t->runner, NULL, &regs);
		(void)il_step_thread(t, t->runner, 0);
	}
	set_registers(t, s);
	(void)ptrace(PTRACE_SETFPREGS, t->runner, NULL, (void *)(uintptr_t)&s->fp);
	set_mask(t, s->in_handler ? ~SIGTRAP_BIT : 0);
	write_stack(t, s);
}

/*
 * The signal frame of a handler at its first instruction: without the trap flag, which is the
 * tracer's. The kernel leaves it there where what is behind the int3, the tail of a site,
 * looks like an instruction that would set it.
 */
static void hide_stepping(struct il_tracer *t)
{
	struct user_regs_struct regs;
	uint64_t flags;
	char *at;

	(void)ptrace(PTRACE_GETREGS, t->runner, NULL, &regs);
	at = (char *)regs.rdx + offsetof(ucontext_t, uc_mcontext.gregs[REG_EFL]);
	il_peek(t, at, &flags, sizeof(flags));
	(void)ptrace(PTRACE_POKEDATA, t->runner, at, (void *)(flags & ~TRAP_FLAG));
}

/* From the trap into the handler. */
static enum il_stopped enter_handler(struct il_tracer *t, struct il_state *s)
{
	enum il_stopped how;

	write_stack(t, s);
	(void)ptrace(PTRACE_SETSIGINFO, t->runner, NULL, &breakpoint);
	how = il_step_thread(t, t->runner, SIGTRAP);
	s->pending = false;
	s->in_handler = true;
	if (!(il_mask(t) & SIGTRAP_BIT))
		return IL_SIGNAL; /* not as the library asked for it */
	hide_stepping(t);
	set_mask(t, ~SIGTRAP_BIT);
	return how;
}

enum il_stopped il_advance(struct il_tracer *t, struct il_state *s)
{
	enum il_stopped how;

	how = s->pending ? enter_handler(t, s) : il_step_thread(t, t->runner, 0);
	if (how == IL_STEPPED || how == IL_INT3)
		il_save(t, s);
	s->pending = how == IL_INT3;
	return how;
}
