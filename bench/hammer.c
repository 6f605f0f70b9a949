/* SPDX-License-Identifier: MIT */
/*
 * (e) What a thread that does nothing but call at a site loses while the site is
 * updated at a steady rate from another CPU. Each round measures every rate, the rate 0
 * too, and what a rate costs is told by the ratio of the two.
 */
#include "bench.h"

#include <stdio.h>

static const struct bench *bench;

struct rate {
	double per_second;
	double window[2]; /* seconds: full, quick */
};

/* Update at @rate's pace until @window seconds are over; the count of them, or < 0. */
static double update_for(double per_second, double window)
{
	double start = bench_now(), end = start + window * 1e9;
	double step = per_second > 0 ? 1e9 / per_second : 2e9 * window;
	double next = start + step / 2;
	static bool other;
	int done = 0;

	for (double now = start; now < end; now = bench_now()) {
		struct timespec ts = {0, 50000};

		if (now >= next) {
			other = !other;
			if (bench_retarget(other))
				return -1;
			done++;
			next += step;
		} else if (next - now > 200000) {
			nanosleep(&ts, NULL);
		}
	}
	return done;
}

/* Million calls a second that the hammering thread makes. */
static double time_hammer(const void *arg)
{
	const struct rate *rate = arg;
	uint64_t calls;
	double start, done;

	if (bench_thread_start(bench, bench_loop_inline))
		return -1;
	calls = bench_thread_calls();
	start = bench_now();
	done = update_for(rate->per_second, rate->window[bench->quick]);
	calls = bench_thread_calls() - calls;
	start = bench_now() - start;
	bench_thread_stop();
	return done < 0 ? -1 : (double)calls / start * 1e3;
}

void bench_hammer(struct bench *b)
{
	static const struct rate rates[] = {{0, {0.5, 0.2}},
					    {1, {1, 1}},
					    {100, {0.5, 0.2}},
					    {1000, {0.5, 0.2}},
					    {10000, {0.5, 0.2}}};
	const struct bench_case cases[] = {
		{"no updates", time_hammer, &rates[0], -1},
		{"1 update/s", time_hammer, &rates[1], 0},
		{"100 updates/s", time_hammer, &rates[2], 0},
		{"1,000 updates/s", time_hammer, &rates[3], 0},
		{"10,000 updates/s", time_hammer, &rates[4], 0},
	};

	bench = b;
	if (b->has_two)
		bench_run(b, "hammer", "Mcall/s", cases, 5, b->quick ? 3 : 9);
	else
		bench_skip(b, "hammer", "all", "one CPU");
}
