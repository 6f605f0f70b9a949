/* SPDX-License-Identifier: MIT */
/* The signal mask of a thread that updates (lock.c). */
#include <signal.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"

static uint64_t set_of(int sig)
{
	return (uint64_t)1 << (sig - 1);
}

/*
 * All but those that an instruction of the update itself may raise: int3, a load from text that
 * has gone, a system call that a filter traps. None divides by what may be 0, and none is one
 * that a CPU may lack (rdpkru is asked for first), so not SIGFPE and SIGILL. Directly: the C
 * library keeps its own (cancellation) from being blocked, and libshunt-signals others.
 */
int shunt_block_signals(uint64_t *before)
{
	uint64_t set = ~(set_of(SIGTRAP) | set_of(SIGSEGV) | set_of(SIGBUS) | set_of(SIGSYS));
	long ret =
		shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, (long)before, sizeof(set));

	if (ret)
		shunt_failed_call = "rt_sigprocmask";
	return (int)ret;
}

void shunt_restore_signals(uint64_t mask)
{
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof(mask));
}
