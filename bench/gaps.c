/* SPDX-License-Identifier: MIT */
/*
 * The thread of hammer.c: it calls without end, looks at the clock after each few hundred
 * calls, and keeps the gaps: the stretches that took more than twice as long as the one
 * before. What it lost in a gap is what that is longer by.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Calls between two looks at the clock, some 0.5 us; stretches before it is warm. */
enum { CHUNK = 500, WARM = 200, GAPS = 4096 };

struct gap {
	double start, end, lost; /* ns */
};

static struct {
	pthread_t id;
	bench_loop_fn *loop;
	int cpu;
	_Atomic bool stop, sleep;
	_Atomic uint64_t calls;
	struct gap gaps[GAPS]; /* the thread's, until it has ended */
	size_t nr_gaps;
	long preempted; /* how often; the thread's, until it has ended */
} hammer;

static void keep_gap(double start, double end, double normal)
{
	if (hammer.nr_gaps < GAPS)
		hammer.gaps[hammer.nr_gaps++] = (struct gap){start, end, end - start - normal};
}

/* About as long as an update by remap has it sleep. */
static void sleep_once(void)
{
	struct timespec ts = {0, 10000};

	nanosleep(&ts, NULL);
	atomic_store_explicit(&hammer.sleep, false, memory_order_release);
}

static void call_without_end(void)
{
	double normal = 1e9, last = bench_now();
	uint64_t calls = 0;
	int long_ones = 0;

	while (!atomic_load_explicit(&hammer.stop, memory_order_relaxed)) {
		double now;

		calls += hammer.loop(CHUNK);
		if (atomic_load_explicit(&hammer.sleep, memory_order_relaxed))
			sleep_once();
		now = bench_now();
		/* Many long ones in a row are another speed, and no gaps. */
		if (now - last < 2 * normal || ++long_ones == 16) {
			normal = now - last;
			long_ones = 0;
		} else {
			keep_gap(last, now, normal);
		}
		last = now;
		atomic_store_explicit(&hammer.calls, calls, memory_order_relaxed);
	}
}

long bench_preempted(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? 0 : usage.ru_nivcsw;
}

static void *run(void *arg)
{
	long before;

	bench_pin(hammer.cpu); /* which preempts it */
	before = bench_preempted();
	(void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
	call_without_end();
	hammer.preempted = bench_preempted() - before;
	return arg;
}

int bench_hammer_start(const struct bench *b, bench_loop_fn *loop)
{
	int err;

	hammer.loop = loop;
	hammer.cpu = b->cpu[1];
	hammer.nr_gaps = 0;
	atomic_store(&hammer.stop, false);
	atomic_store(&hammer.calls, 0);
	err = pthread_create(&hammer.id, NULL, run, NULL);
	while (!err && bench_hammer_calls() < (uint64_t)WARM * CHUNK)
		sched_yield();
	return -err;
}

uint64_t bench_hammer_calls(void)
{
	return atomic_load_explicit(&hammer.calls, memory_order_relaxed);
}

void bench_hammer_sleep(void)
{
	atomic_store(&hammer.sleep, true);
	/* Pairs with the release in sleep_once(). */
	while (atomic_load_explicit(&hammer.sleep, memory_order_acquire))
		;
}

bool bench_hammer_stop(void)
{
	atomic_store(&hammer.stop, true);
	(void)pthread_join(hammer.id, NULL);
	return !hammer.preempted;
}

double bench_hammer_lost(double start, double end)
{
	double lost = 0;

	for (size_t i = 0; i < hammer.nr_gaps; i++)
		if (hammer.gaps[i].start < end && start < hammer.gaps[i].end)
			lost += hammer.gaps[i].lost;
	return lost;
}
