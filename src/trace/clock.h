/* SPDX-License-Identifier: MIT */
/* The clock of events: the CPU's counter (rdtsc, cntvct_el0) where it is invariant, else CLOCK_MONOTONIC in nanoseconds. */
#ifndef SHUNT_TRACE_CLOCK_H
#define SHUNT_TRACE_CLOCK_H

#include <stdint.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/format.h"

/* What ticks times nanoseconds fits in. */
__extension__ typedef unsigned __int128 trace_wide;

/* Which of them can be trusted here. */
enum trace_clock_source trace_clock_choose(void);

/* The clock now, and CLOCK_MONOTONIC. Not for hooks. */
struct trace_clock trace_clock_read(enum trace_clock_source source);

/* Ticks in a second, from two readings some milliseconds apart. */
uint64_t trace_clock_rate(enum trace_clock_source source);

static inline uint64_t trace_ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* Ticks; for hooks: general registers alone, no C library. */
static inline uint64_t trace_clock_ticks(enum trace_clock_source source)
{
	struct timespec now = {0};

	if (source == TRACE_CLOCK_TSC)
		return shunt_cycles();
	(void)shunt_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
	return trace_ns(&now);
}

#endif
