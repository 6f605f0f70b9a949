/* SPDX-License-Identifier: MIT */
/*
 * What tracing costs: a program that is traced and measures itself, in modes (its argument):
 *
 *	off        functions that can be traced and are not, and callbacks
 *	recorded   functions whose entries and returns are recorded
 *	switch     switching functions on and off
 *	memory     of functions and threads
 *
 * BENCH_CPU: the CPU of the other thread, -1: no other thread. BENCH_QUICK: fewer samples.
 */
#include "trace.h"

#include <pthread.h>
#include <shunt/inspect.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

void trace_check(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "shunt-bench-trace: %s: %d: %s\n", what, error, shunt_last_error());
	exit(1);
}

bool trace_is_quick(void)
{
	return getenv("BENCH_QUICK") != NULL;
}

void trace_print(const char *name, double value)
{
	printf("%s %f\n", name, value);
}

int trace_other_cpu(void)
{
	const char *cpu = getenv("BENCH_CPU");

	return cpu ? (int)strtol(cpu, NULL, 10) : 1;
}

/* ---------------------------------------------------------------- the threads */

struct run {
	trace_loop_fn *loop;
	uint64_t warm, calls;
	double ns;
	_Atomic int *waiting; /* for how many others to have warmed up */
};

/* Of the thread's own time: on a busy machine others have the CPU now and then. */
double trace_thread_time(void)
{
	struct timespec ts = {0, 0};

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void run(struct run *r)
{
	double start;

	(void)r->loop(r->warm);
	atomic_fetch_sub(r->waiting, 1);
	while (atomic_load(r->waiting) > 0)
		(void)sched_yield();
	start = trace_thread_time();
	if (r->loop(r->calls) != r->calls)
		trace_check(-1, "a function has returned something else");
	r->ns = (trace_thread_time() - start) / (double)r->calls;
}

static void *other(void *arg)
{
	bench_pin(trace_other_cpu());
	run(arg);
	return NULL;
}

int trace_runs(void)
{
	return trace_other_cpu() < 0 ? 1 : 2;
}

double trace_time(trace_loop_fn *loop, uint64_t warm, uint64_t calls, int threads)
{
	_Atomic int waiting = threads;
	struct run runs[2] = {{loop, warm, calls, 0, &waiting}, {loop, warm, calls, 0, &waiting}};
	pthread_t id;

	if (threads == 1)
		run(&runs[0]);
	if (trace_runs() == 1)
		return runs[0].ns;
	waiting = threads;
	trace_check(-pthread_create(&id, NULL, other, &runs[1]), "pthread_create");
	if (threads == 2)
		run(&runs[0]);
	(void)pthread_join(id, NULL);
	return (runs[0].ns + runs[1].ns) / 2;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*measure)(void);
	} modes[] = {{"off", trace_off},
		     {"callbacks", trace_callbacks},
		     {"recorded", trace_recorded},
		     {"switch", trace_switch},
		     {"memory", trace_memory}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (argc == 2 && !strcmp(argv[1], modes[i].name)) {
			modes[i].measure();
			return 0;
		}
	return 2;
}
