/* SPDX-License-Identifier: MIT */
/*
 * The other thread: it calls, on a CPU of its own, while updates are measured. It is
 * made anew each time, because without it the process must have one thread alone.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

static struct {
	pthread_t id;
	bench_loop_fn *loop;
	int cpu;
	_Atomic bool stop;
	_Atomic uint64_t calls;
} other;

/* Calls between two looks at the flag: some 2 us. */
enum { CHUNK = 2000 };

static void *run(void *arg)
{
	bench_pin(other.cpu);
	while (!atomic_load_explicit(&other.stop, memory_order_relaxed)) {
		uint64_t made = other.loop(CHUNK);

		/* Nobody else writes it. */
		atomic_store_explicit(&other.calls,
				      atomic_load_explicit(&other.calls, memory_order_relaxed) +
					      made,
				      memory_order_relaxed);
	}
	return arg;
}

int bench_thread_start(const struct bench *b, bench_loop_fn *loop)
{
	int err;

	other.loop = loop;
	other.cpu = b->cpu[1];
	atomic_store(&other.stop, false);
	atomic_store(&other.calls, 0);
	err = pthread_create(&other.id, NULL, run, NULL);
	/* Until it runs, it is not there. */
	while (!err && !bench_thread_calls())
		sched_yield();
	return -err;
}

uint64_t bench_thread_calls(void)
{
	return atomic_load_explicit(&other.calls, memory_order_relaxed);
}

void bench_thread_stop(void)
{
	atomic_store(&other.stop, true);
	(void)pthread_join(other.id, NULL);
}
