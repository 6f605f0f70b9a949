/* SPDX-License-Identifier: MIT */
/*
 * Calibration: the clock and CLOCK_MONOTONIC are read together at the start, at the end and now and
 * then in between; the reader of the file makes nanoseconds of that.
 */
#include "trace/clock.h"

enum trace_clock_source trace_clock_choose(void)
{
	return shunt_cycles_are_time() ? TRACE_CLOCK_TSC : TRACE_CLOCK_MONOTONIC;
}

/* By the system call: in a hook, the C library is not called. */
static uint64_t monotonic(void)
{
	return trace_clock_ticks(TRACE_CLOCK_MONOTONIC);
}

/* The closest of several readings: between two of the others' clock. */
struct trace_clock trace_clock_read(enum trace_clock_source source)
{
	struct trace_clock best = {.error_ns = UINT64_MAX};

	for (int i = 0; i < 16; i++) {
		uint64_t before = monotonic();
		uint64_t ticks = trace_clock_ticks(source);
		uint64_t apart = monotonic() - before;

		if (apart / 2 + 1 > best.error_ns)
			continue;
		best = (struct trace_clock){ticks, before + apart / 2, apart / 2 + 1};
	}
	return best;
}

uint64_t trace_clock_rate(enum trace_clock_source source)
{
	struct trace_clock first, last;

	if (source == TRACE_CLOCK_MONOTONIC)
		return 1000000000u;
	first = trace_clock_read(source);
	do {
		last = trace_clock_read(source);
	} while (last.monotonic_ns - first.monotonic_ns < 2000000);
	return (uint64_t)(((trace_wide)(last.ticks - first.ticks) * 1000000000u) /
			  (last.monotonic_ns - first.monotonic_ns));
}
