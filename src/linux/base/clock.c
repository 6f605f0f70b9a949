/* SPDX-License-Identifier: MIT */
/*
 * How long something takes. Where a filter refuses the clock or answers 0 in its place, by the
 * cycle counter, whose frequency may be a guess: waits are longer then, and end.
 */
#include <time.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"

uint64_t shunt_clock(void)
{
	struct timespec t = {0, -1};

	if (shunt_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0) || t.tv_nsec < 0)
		return shunt_cycles_ns();
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
