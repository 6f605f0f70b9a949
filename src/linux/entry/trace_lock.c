/* SPDX-License-Identifier: MIT */
/*
 * The ftrace lock: who changes what is traced. A futex word with the number of its owner, as the
 * update lock (text/lock.c), whose holder's signals are blocked for the same reasons; and as that
 * one it is not held over fork(): a copy of the process finds it free, and the owner's number,
 * which the kernel does not wipe, says that a change was left in the middle.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"

#define WAITERS 0x80000000u
#define OWNER   0x7fffffffu

static uint32_t owner;       /* once more; guarded by the lock */
static uint64_t mask_before; /* of its signals */

static int fail(const char *what, const struct ftrace_ops *ops, int ret)
{
	struct shunt_report report = {.error = ret, .what = what, .ops = ops};

	shunt_port_report(&report);
	return ret;
}

static int fail_in(const char *what, const char *call, const struct ftrace_ops *ops)
{
	shunt_failed_call = call;
	return fail(what, ops, -EDEADLK);
}

static bool is_gone(uint32_t tid)
{
	return shunt_syscall(SYS_tgkill, shunt_own_pid(), (long)tid, 0, 0) == -ESRCH;
}

/* Wait while the word is @seen. A copy that no atfork handler saw may have an owner that is not. */
static void wait(_Atomic uint32_t *word, uint32_t seen)
{
	struct timespec moment = {0, 50000000};
	uint32_t with = seen | WAITERS;

	if (is_gone(seen & OWNER)) {
		(void)atomic_compare_exchange_strong(word, &seen, 0);
		return;
	}
	if ((seen & WAITERS) || atomic_compare_exchange_strong(word, &seen, with))
		(void)shunt_syscall(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, with,
				    (long)&moment);
}

static int repair(void)
{
	int ret = shunt_port_lock(); /* takes the poke back */

	if (ret)
		return ret;
	shunt_port_unlock();
	shunt_ftrace_repair();
	return 0;
}

static void release(void)
{
	struct shunt_process *process = shunt_process();
	uint64_t mask = mask_before;

	owner = 0;
	if (atomic_exchange(&process->trace_lock, 0) & WAITERS)
		(void)shunt_syscall(SYS_futex, (long)&process->trace_lock,
				    FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0);
	shunt_restore_signals(mask);
}

int shunt_port_trace_lock(const char *what, const struct ftrace_ops *ops)
{
	struct shunt_process *process;
	uint32_t tid, word, seen = 0;
	uint64_t mask = 0;
	int ret;

	if (!shunt_libc_has_started())
		return fail(what, ops, -EAGAIN);
	if (shunt_is_in_callback())
		return fail_in("called from a callback", what, ops);
	process = shunt_process();
	word = tid = (uint32_t)shunt_own_tid();
	shunt_failed_call = NULL;
	ret = shunt_block_signals(&mask);
	while (!ret && !atomic_compare_exchange_strong(&process->trace_lock, &seen, word)) {
		shunt_restore_signals(mask);
		if ((seen & OWNER) == tid)
			return fail_in("called from within a change of the same thread", what, ops);
		wait(&process->trace_lock, seen);
		word |= WAITERS; /* others may be waiting */
		seen = 0;
		ret = shunt_block_signals(&mask);
	}
	if (ret)
		return fail(what, ops, ret);
	mask_before = mask;
	if (owner && owner != tid)
		ret = repair();
	owner = tid;
	if (!ret)
		return 0;
	release();
	return fail(what, ops, ret);
}

void shunt_port_trace_unlock(void)
{
	const char *call = shunt_failed_call;

	release();
	shunt_failed_call = call;
}

/* In a child this thread has another number. */
static void fork_child(void)
{
	struct shunt_process *process =
		atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	if (process)
		atomic_store(&process->trace_lock, 0);
	if (shunt_context)
		atomic_store(&shunt_context->tid, shunt_own_tid());
}

__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, fork_child);
}
