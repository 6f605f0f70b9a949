/* SPDX-License-Identifier: MIT */
/* A word that the consumer waits on: a futex, because hooks call no C library. */
#include <linux/futex.h>
#include <stdatomic.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/wake.h"

enum { PAUSE_NS = 10000000 };

/* 1: the consumer is going to sleep, or does. */
static _Atomic uint32_t is_idle;

void trace_wake_consumer(void)
{
	/* Nothing is stored while it is awake: other threads read the line. */
	if (!atomic_load_explicit(&is_idle, memory_order_relaxed))
		return;
	if (atomic_exchange(&is_idle, 0))
		(void)shunt_syscall(SYS_futex, (long)&is_idle, FUTEX_WAKE_PRIVATE, 1, 0);
}

void trace_sleep_begin(void)
{
	atomic_store(&is_idle, 1);
}

void trace_sleep(void)
{
	static const struct timespec pause = {0, PAUSE_NS};

	(void)shunt_syscall(SYS_futex, (long)&is_idle, FUTEX_WAIT_PRIVATE, 1, (long)&pause);
}
