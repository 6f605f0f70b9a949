/* SPDX-License-Identifier: MIT */
/*
 * Signal actions as the kernel has them, and what the default action of SIGTRAP comes to. For
 * libshunt and libshunt-signals; async-signal-safe, no lock, no state.
 */
#ifndef SHUNT_LINUX_ACTION_H
#define SHUNT_LINUX_ACTION_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "linux/base/syscall.h"

/* struct sigaction, of rt_sigaction(2). */
struct shunt_action {
	void (*handler)(int sig, siginfo_t *info, void *context);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

#define SHUNT_SA_RESTORER 0x04000000ul

/* 0 or -errno. */
static inline int shunt_sigaction_raw(int sig, const struct shunt_action *new,
				      struct shunt_action *old)
{
	return (int)shunt_syscall(SYS_rt_sigaction, sig, (long)new, (long)old, sizeof(new->mask));
}

/* Whether that is done: a filter may have answered 0 for the call. */
bool shunt_is_installed(int sig, const struct shunt_action *action); /* action.c */

static inline bool shunt_is_default(const struct shunt_action *action)
{
	return (uintptr_t)action->handler == (uintptr_t)SIG_DFL;
}

static inline bool shunt_is_ignored(const struct shunt_action *action)
{
	return (uintptr_t)action->handler == (uintptr_t)SIG_IGN;
}

/* By kill(), sigqueue() and the like, and not by the CPU or the kernel itself. */
static inline bool shunt_is_sent(const siginfo_t *info)
{
	return info->si_code <= 0;
}

#define SHUNT_TRAP_DB 1 /* REG_TRAPNO: single step, debug register, icebp */

/*
 * Whether it is a breakpoint instruction's. The kernel says SI_KERNEL; valgrind and gVisor
 * say TRAP_BRKPT, as the kernel does for icebp: that is a #DB.
 */
static inline bool shunt_is_breakpoint(const siginfo_t *info, const ucontext_t *uc)
{
	if (info->si_code == TRAP_BRKPT)
		return uc->uc_mcontext.gregs[REG_TRAPNO] != SHUNT_TRAP_DB;
	return info->si_code == SI_KERNEL;
}

/* Back to in front of the breakpoint, which is then run again; false where it has gone. */
static inline bool shunt_back_to_breakpoint(ucontext_t *uc)
{
	greg_t *ip = &uc->uc_mcontext.gregs[REG_RIP];
	const uint8_t *code = (const uint8_t *)*ip;

	if (code[-1] == 0xcc) /* int3 */
		*ip -= 1;
	else if (code[-1] == 3 && code[-2] == 0xcd) /* int $3 */
		*ip -= 2;
	else
		return false;
	return true;
}

/*
 * The default action of SIGTRAP, as if no handler were there: the process dies when the handler
 * returns to @uc, so that a core dump shows the right place. A breakpoint is run again, because
 * the kernel kills even the first process of a PID namespace by a trap of its own CPU, but not
 * by what it sends to itself; a SIGTRAP that is sent is nothing to such a process. Its other
 * traps end at @int3, the address of such an instruction.
 */
static inline void shunt_die_of_trap(const siginfo_t *info, ucontext_t *uc, const void *int3)
{
	static const struct shunt_action dfl = {0};
	long pid = shunt_own_pid();
	uint64_t mask;

	if (pid == 1 && shunt_is_sent(info))
		return;
	(void)shunt_sigaction_raw(SIGTRAP, &dfl, NULL);
	/* What it interrupted may have waited with another mask, as sigsuspend() does. */
	memcpy(&mask, &uc->uc_sigmask, sizeof(mask));
	mask &= ~(1ul << (SIGTRAP - 1));
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
	if (shunt_is_breakpoint(info, uc) && shunt_back_to_breakpoint(uc))
		return;
	if (pid == 1)
		uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)int3;
	else
		(void)shunt_syscall(SYS_tgkill, pid, shunt_own_tid(), SIGTRAP, 0);
}

#endif
