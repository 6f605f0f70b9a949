/* SPDX-License-Identifier: MIT */
/*
 * Functions whose entries and returns are recorded, against one that reads the clock twice: what
 * is left is the recorder's own. In the flight recorder; and kept all, in a burst for which
 * there is room.
 */
#include <shunt/trace.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "trace.h"

/* 1 MiB has 65,536 events: more than once around before it is measured. */
enum { ROUNDS = 41, QUICK = 9, CALLS = 100000, WARM = 40000, BURST_RING = 16 << 20 };

static char file[] = "/tmp/shunt-bench-XXXXXX";

static void start(const struct trace_kind *kind, bool is_burst)
{
	struct shunt_trace_options options = {.size = sizeof(options),
					      .filter = kind->function,
					      .path = file,
					      .mode = is_burst ? SHUNT_TRACE_ALL
							       : SHUNT_TRACE_FLIGHT,
					      .ring_size = is_burst ? BURST_RING : 0,
					      .auto_off_ns = UINT64_MAX};

	trace_check(shunt_trace_start(&options), "shunt_trace_start");
}

static void stop(uint64_t expected)
{
	struct shunt_trace_stats stats;

	trace_check(shunt_trace_stop(), "shunt_trace_stop");
	shunt_trace_get_stats(&stats);
	if (stats.events != expected || stats.lost || stats.no_return) {
		fprintf(stderr, "shunt-bench-trace: %lu events and not %lu, %lu lost\n",
			(unsigned long)stats.events, (unsigned long)expected,
			(unsigned long)stats.lost);
		exit(1);
	}
}

static void print(int threads, const struct trace_kind *kind, const char *what, double value)
{
	char name[64];

	snprintf(name, sizeof(name), "%d_%s_%s", threads, kind->name, what);
	trace_print(name, value);
}

static void measure(const struct trace_kind *kind, bool is_burst, int threads, double clock)
{
	uint64_t warm = is_burst ? 100 : WARM;
	double ns;

	start(kind, is_burst);
	ns = trace_time(kind->loop, warm, CALLS, threads);
	stop((uint64_t)trace_runs() * 2 * (warm + CALLS));
	print(threads, kind, is_burst ? "all" : "flight", ns);
	if (!is_burst)
		print(threads, kind, "beyond", ns - clock);
}

void trace_recorded(void)
{
	int threads = trace_other_cpu() < 0 ? 1 : 2, fd = mkstemp(file);

	trace_check(fd < 0, "mkstemp");
	for (int round = 0; round < (trace_is_quick() ? QUICK : ROUNDS); round++)
		for (int n = 1; n <= threads; n++) {
			double clock = trace_time(trace_loop_clock, WARM, CALLS, n);

			trace_print(n == 1 ? "1_clock" : "2_clock", clock);
			for (const struct trace_kind *k = trace_kinds; k->name; k++)
				measure(k, false, n, clock);
			if (round % 4 == 0)
				measure(&trace_kinds[0], true, n, clock);
		}
	(void)close(fd);
	(void)unlink(file);
}
