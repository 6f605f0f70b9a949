/* SPDX-License-Identifier: MIT */
/* A program that records itself with an installed libshunt-trace. It succeeds if its function is
 * recorded. */
#include <shunt/trace.h>

#include <stdio.h>

__attribute__((noinline, patchable_function_entry(5))) static int traced(int x)
{
	__asm__ volatile("" ::: "memory");
	return x + 1;
}

int main(void)
{
	struct shunt_trace_options options = {.size = sizeof(options),
					      .mode = SHUNT_TRACE_FLIGHT,
					      .filter = "traced",
					      .auto_off_ns = UINT64_MAX};
	struct shunt_trace_stats stats;

	if (shunt_trace_start(&options))
		return 1;
	for (int i = 0; i < 100; i++)
		if (traced(i) != i + 1)
			return 2;
	if (shunt_trace_stop())
		return 3;
	shunt_trace_get_stats(&stats);
	printf("%lu events of %lu functions\n", (unsigned long)stats.events,
	       (unsigned long)stats.functions);
	return stats.events == 200 && stats.functions == 1 ? 0 : 4;
}
