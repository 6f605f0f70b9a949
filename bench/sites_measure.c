/* SPDX-License-Identifier: MIT */
/*
 * How the programs with 100,000 sites measure an update: alone and beside another thread, again
 * where a busy neighbour had the CPU.
 */
#include "sites_measure.h"

#include <pthread.h>
#include <shunt/inspect.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

/* ---------------------------------------------------------- the other thread */

static struct {
	pthread_t id;
	int cpu;
	void (*fn)(void);
	_Atomic bool stop;
	_Atomic bool runs;
} other;

static void *run(void *arg)
{
	bench_pin(other.cpu);
	atomic_store(&other.runs, true);
	while (!atomic_load_explicit(&other.stop, memory_order_relaxed))
		other.fn();
	return arg;
}

bool sites_thread_start(void (*fn)(void))
{
	const char *cpu = getenv("BENCH_CPU");

	other.cpu = cpu ? (int)strtol(cpu, NULL, 10) : 1;
	if (other.cpu < 0)
		return false;
	other.fn = fn;
	atomic_store(&other.stop, false);
	atomic_store(&other.runs, false);
	if (pthread_create(&other.id, NULL, run, NULL)) {
		perror("pthread_create");
		exit(1);
	}
	while (!atomic_load(&other.runs))
		sched_yield();
	return true;
}

void sites_thread_stop(void)
{
	atomic_store(&other.stop, true);
	(void)pthread_join(other.id, NULL);
	atomic_store(&other.runs, false);
}

/* ------------------------------------------------------------------ a sample */

/* Nanoseconds that the thread of @clock has run. */
static double ran(clockid_t clock)
{
	struct timespec ts = {0, 0};

	(void)clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* One sample. */
struct sample {
	double ns;
	double share; /* of the time, in which this thread, and the other one, had a CPU */
};

static struct sample sample(int (*one)(size_t, int), size_t n, int repeat)
{
	clockid_t clock = CLOCK_THREAD_CPUTIME_ID;
	double own, others, ns;
	int err = 0;

	if (atomic_load(&other.runs))
		(void)pthread_getcpuclockid(other.id, &clock);
	own = ran(CLOCK_THREAD_CPUTIME_ID);
	others = ran(clock);
	ns = bench_now();
	for (int i = 0; i < repeat; i++)
		err |= one(n, i);
	ns = bench_now() - ns;
	own = ran(CLOCK_THREAD_CPUTIME_ID) - own;
	others = ran(clock) - others;
	if (err) {
		fprintf(stderr, "update of %zu sites: %s\n", n, shunt_last_error());
		exit(1);
	}
	return (struct sample){ns, (own < others ? own : others) / ns};
}

/*
 * A busy neighbour can have either thread's CPU: then the sample is of something else, and is
 * taken again. Only a long one is printed nevertheless, for it has had its share.
 */
void sites_measure(const char *name, int (*one)(size_t, int), size_t n, int repeat,
		   const char *company)
{
	double end = bench_now() + 200e6;
	struct sample best = {0, -1};

	do {
		struct sample s = sample(one, n, repeat);

		if (s.share > best.share)
			best = s;
	} while (best.share < 0.9 && bench_now() < end);
	if (best.share >= 0.9 || best.ns > 5e6)
		printf("%s_%zu_%s %f\n", name, n, company, best.ns / repeat / (double)n);
	fflush(stdout);
}

int sites_repeats(size_t n)
{
	if (n <= 10)
		return 20;
	if (n == 1000)
		return 4;
	return getenv("BENCH_QUICK") ? 2 : 6;
}
