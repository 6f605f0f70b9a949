/* SPDX-License-Identifier: MIT */
/*
 * A program with 100,000 sites, which measures itself and prints "name value" lines.
 *
 *	startup          exec to main(), the constructors' time, memory at main()
 *	update           ns a site for updates of 1 to 100,000 sites, alone and with a
 *	                 thread running: one update of a key, one text_poke_bp_batch(),
 *	                 and one text_poke_bp() for each site
 *	batch            the first of these alone
 *	profile          updates of 100,000 sites for five seconds, for a profiler
 *
 * BENCH_START is the clock as it was just before the exec, BENCH_CPU the CPU for the
 * other thread (-1: no other thread), BENCH_QUICK is set for fewer repetitions.
 */
#include <pthread.h>
#include <shunt/inspect.h>
#include <shunt/text_poke.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sites.h"

extern __attribute__((visibility("hidden"))) uint8_t sites_nops[];

__attribute__((noinline, aligned(64))) void sites_target(void)
{
	__asm__ volatile("");
}

__attribute__((noinline, aligned(64))) static void other_target(void)
{
	__asm__ volatile("" ::: "memory");
}

DEFINE_STATIC_CALL(sites_1, sites_target);
DEFINE_STATIC_CALL(sites_10, sites_target);
DEFINE_STATIC_CALL(sites_1000, sites_target);
DEFINE_STATIC_CALL(sites_100000, sites_target);

enum { SITES = 100000 };

/* ----------------------------------------------------------------- start-up */

static double before_constructors;

static void see_before(void)
{
	before_constructors = bench_now();
}
__attribute__((used, section(".preinit_array"))) static void (*preinit)(void) = see_before;

/* @field of @file, in KiB. */
static void print_memory(const char *file, const char *field, const char *name)
{
	FILE *f = fopen(file, "re");
	char line[256];
	size_t len = strlen(field);

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ':')
			printf("%s %ld\n", name, strtol(line + len + 1, NULL, 10));
	if (f)
		(void)fclose(f);
}

static void startup(double at_main)
{
	const char *start = getenv("BENCH_START");

	if (start)
		printf("main %f\n", (at_main - strtod(start, NULL)) / 1e6);
	printf("constructors %f\n", (at_main - before_constructors) / 1e6);
	print_memory("/proc/self/smaps_rollup", "Rss", "rss");
	print_memory("/proc/self/smaps_rollup", "Private_Dirty", "dirty");
	print_memory("/proc/self/status", "VmHWM", "peak");
}

/* ---------------------------------------------------------- the other thread */

static struct {
	pthread_t id;
	int cpu;
	_Atomic bool stop;
	_Atomic bool runs;
} other;

static void *run(void *arg)
{
	bench_pin(other.cpu);
	atomic_store(&other.runs, true);
	while (!atomic_load_explicit(&other.stop, memory_order_relaxed))
		sites_f0();
	return arg;
}

static void start_thread(void)
{
	atomic_store(&other.stop, false);
	atomic_store(&other.runs, false);
	if (pthread_create(&other.id, NULL, run, NULL)) {
		perror("pthread_create");
		exit(1);
	}
	while (!atomic_load(&other.runs))
		sched_yield();
}

static void stop_thread(void)
{
	atomic_store(&other.stop, true);
	(void)pthread_join(other.id, NULL);
	atomic_store(&other.runs, false);
}

/* ------------------------------------------------------------------ updates */

/* Each changes @n sites in its way, to another state than that of the last turn. */
static int one_update(size_t n, int turn)
{
	void (*to)(void) = turn % 2 ? sites_target : other_target;

	if (n == 1)
		return static_call_update(sites_1, to);
	if (n == 10)
		return static_call_update(sites_10, to);
	if (n == 1000)
		return static_call_update(sites_1000, to);
	return static_call_update(sites_100000, to);
}

static const uint8_t nop[5] = {0x0f, 0x1f, 0x44, 0, 0}, jmp[5] = {0xe9, 0, 0, 0, 0};

static int text_batch(size_t n, int turn)
{
	static struct text_poke pokes[SITES];

	for (size_t i = 0; i < n; i++)
		pokes[i] = (struct text_poke){.addr = sites_nops + i * NOP_STRIDE,
					      .insn = turn % 2 ? nop : jmp,
					      .len = 5};
	return text_poke_bp_batch(pokes, n);
}

static int text_each(size_t n, int turn)
{
	int err = 0;

	for (size_t i = 0; i < n; i++)
		err |= text_poke_bp(sites_nops + i * NOP_STRIDE, turn % 2 ? nop : jmp, 5);
	return err;
}

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
 * Print ns a site; @repeat is even, so that all sites end as they began. A busy
 * neighbour can have either thread's CPU: then the sample is of something else, and is
 * taken again. Only a long one is printed nevertheless, for it has had its share.
 */
static void measure(const char *name, int (*one)(size_t, int), size_t n, int repeat,
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

/* How many updates make a sample: less than what the scheduler gives at a time. */
static int repeats(size_t n)
{
	if (n <= 10)
		return 20;
	if (n == 1000)
		return 4;
	return getenv("BENCH_QUICK") ? 2 : 6;
}

static void measure_size(size_t n, const char *company, bool each)
{
	measure("update", one_update, n, repeats(n), company);
	if (!each)
		return;
	measure("batch", text_batch, n, repeats(n), company);
	/* A fifth of the sites tells the same where time is short. */
	measure("each", text_each, n == SITES && getenv("BENCH_QUICK") ? SITES / 5 : n,
		n == 1 ? repeats(n) : 2, company);
}

/* The short ones more often: a busy neighbour can have the CPU for all of one. */
static void measure_all(const char *company, bool each)
{
	for (int round = 0; round < 5; round++) {
		measure_size(1, company, each);
		measure_size(10, company, each);
		measure_size(1000, company, each);
	}
	measure_size(SITES, company, each);
}

static int updates(bool each)
{
	const char *cpu = getenv("BENCH_CPU");

	other.cpu = cpu ? (int)strtol(cpu, NULL, 10) : 1;
	/* Once for all first: records are made, and pages copied, at a site's first poke. */
	if (one_update(SITES, 0) || one_update(SITES, 1) || (each && text_batch(SITES, 0)) ||
	    (each && text_batch(SITES, 1))) {
		fprintf(stderr, "%s\n", shunt_last_error());
		return 1;
	}
	measure_all("alone", each);
	if (other.cpu < 0)
		return 0;
	start_thread();
	measure_all("thread", each);
	stop_thread();
	print_memory("/proc/self/smaps_rollup", "Private_Dirty", "dirty_after");
	print_memory("/proc/self/status", "VmHWM", "peak_after");
	return 0;
}

static int profile(void)
{
	double end = bench_now() + 5e9;
	int err = 0;

	for (int i = 0; bench_now() < end; i++)
		err |= one_update(SITES, i);
	return err != 0;
}

int main(int argc, char **argv)
{
	double at_main = bench_now();
	const char *mode = argc > 1 ? argv[1] : "startup";

	if (!strcmp(mode, "update"))
		return updates(true);
	if (!strcmp(mode, "batch"))
		return updates(false);
	if (!strcmp(mode, "profile"))
		return profile();
	startup(at_main);
	return 0;
}
