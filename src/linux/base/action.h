/* SPDX-License-Identifier: MIT */
/*
 * Signal actions as the kernel has them. For libshunt and libshunt-signals; async-signal-safe, no
 * lock, no state.
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

/*
 * The mask of a handler of ours: no other handler is to stand between a signal and what is done for
 * it, but for those of what that itself may raise. The word that an emulated call pushes may be on
 * a page that the program brings in when it is touched, the return from the handler a system call
 * that it dispatches (PR_SET_SYSCALL_USER_DISPATCH). Blocked, the kernel would answer these by
 * killing the process.
 */
static inline uint64_t shunt_handler_mask(void)
{
	return ~((uint64_t)1 << (SIGSEGV - 1) | (uint64_t)1 << (SIGBUS - 1) |
		 (uint64_t)1 << (SIGSYS - 1));
}

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

#endif
