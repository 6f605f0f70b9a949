/* SPDX-License-Identifier: MIT */
/* What no recorder can do without: the function reads the clock where it begins and ends. */
#include <stdint.h>

__attribute__((noinline, aligned(64), visibility("hidden"))) uint64_t trace_f_clock(uint64_t x);

uint64_t trace_f_clock(uint64_t x)
{
	uint64_t begin = __builtin_ia32_rdtsc();
	uint64_t end;

	__asm__ volatile("" : "+r"(x));
	end = __builtin_ia32_rdtsc();
	return x + 1 + ((end - begin) >> 63);
}
