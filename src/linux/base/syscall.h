/* SPDX-License-Identifier: MIT */
/*
 * System calls of the update path, made directly: the C library's pwrite() and open()
 * are cancellation points, and a thread that is cancelled in the middle of a poke
 * would take the lock with it. Returns what the kernel returns: -errno on failure;
 * errno is left alone.
 */
#ifndef SHUNT_LINUX_SYSCALL_H
#define SHUNT_LINUX_SYSCALL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "arch/process.h"
#include "linux/base/valgrind.h"

static inline int32_t shunt_own_pid(void)
{
	return (int32_t)shunt_syscall(SYS_getpid, 0, 0, 0, 0);
}

static inline int32_t shunt_own_tid(void)
{
	return (int32_t)shunt_syscall(SYS_gettid, 0, 0, 0, 0);
}

/*
 * Whether this thread can read the 8 bytes at @addr, by a call that reads a signal mask there
 * and then refuses to use it: -EINVAL: it can; -EFAULT: not; else a filter has answered. No fault
 * is taken.
 */
static inline long shunt_probe(uintptr_t addr)
{
	return shunt_syscall(SYS_rt_sigprocmask, -1, (long)addr, 0, sizeof(uint64_t));
}

/*
 * Where a filter has answered, by one that reads an action there for no signal. Under valgrind,
 * which answers both itself and tells of it, nothing is.
 */
static inline bool shunt_is_readable(uintptr_t addr)
{
	long ret = shunt_probe(addr);

	if (ret != -EINVAL && ret != -EFAULT && !shunt_is_translated())
		ret = shunt_syscall(SYS_rt_sigaction, 0, (long)addr, 0, sizeof(uint64_t));
	return ret == -EINVAL;
}

#endif
