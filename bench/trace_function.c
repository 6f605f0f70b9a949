/* SPDX-License-Identifier: MIT */
/*
 * A function to be traced, compiled for each kind of entry with that kind's option (TRACE_KIND is
 * its name), and another one, which is not.
 */
#include <stdint.h>

#define NAME(kind, what)  NAME_(kind, what)
#define NAME_(kind, what) trace_##what##_##kind

#define FUNCTION __attribute__((noinline, aligned(64), visibility("hidden")))

FUNCTION uint64_t NAME(TRACE_KIND, f)(uint64_t x);
FUNCTION uint64_t NAME(TRACE_KIND, fresh)(uint64_t x);

uint64_t NAME(TRACE_KIND, f)(uint64_t x)
{
	return x + 1;
}

uint64_t NAME(TRACE_KIND, fresh)(uint64_t x)
{
	return x + 1;
}
