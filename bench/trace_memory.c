/* SPDX-License-Identifier: MIT */
/*
 * What functions and threads cost in memory: the process's private dirty pages, and of threads
 * what is more of them than of the same threads before.
 */
#include <pthread.h>
#include <shunt/ftrace.h>
#include <shunt/trace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

enum { THREADS = 200 };

static double dirty(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "Private_Dirty:", 14))
			kib = strtol(line + 14, NULL, 10);
	if (f)
		(void)fclose(f);
	trace_check(kib < 0, "/proc/self/smaps_rollup");
	return (double)kib * 1024;
}

static void print(const char *name, double before, double n)
{
	trace_print(name, (dirty() - before) / n);
}

static void nothing(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		    struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
}

static struct ftrace_ops ops = {.func = nothing};

/* ---------------------------------------------------------------- the threads */

static pthread_barrier_t barrier;

/* Each step is made by all, and then looked at: a call that is a callback's, one that is recorded.
 */
static void *thread(void *arg)
{
	for (int step = 0; step < 3; step++) {
		(void)pthread_barrier_wait(&barrier);
		(void)trace_kinds[0].loop(1);
		(void)pthread_barrier_wait(&barrier);
	}
	return arg;
}

static void step(const char *name, double *before)
{
	(void)pthread_barrier_wait(&barrier);
	(void)pthread_barrier_wait(&barrier);
	if (name)
		print(name, *before, THREADS);
	*before = dirty();
}

static void measure_threads(void)
{
	struct shunt_trace_options options = {.size = sizeof(options),
					      .filter = trace_kinds[0].function,
					      .mode = SHUNT_TRACE_FLIGHT};
	pthread_t id[THREADS];
	double before = 0;

	trace_check(pthread_barrier_init(&barrier, NULL, THREADS + 1), "pthread_barrier_init");
	for (size_t i = 0; i < THREADS; i++)
		trace_check(-pthread_create(&id[i], NULL, thread, NULL), "pthread_create");
	step(NULL, &before);
	trace_check(ftrace_set_filter(&ops, trace_kinds[0].function, 0, 1), "ftrace_set_filter");
	trace_check(register_ftrace_function(&ops), "register_ftrace_function");
	step("thread_callbacks", &before);
	trace_check(unregister_ftrace_function(&ops), "unregister_ftrace_function");
	trace_check(shunt_trace_start(&options), "shunt_trace_start");
	before = dirty();
	step("thread_recorded", &before);
	trace_check(shunt_trace_stop(), "shunt_trace_stop");
	for (size_t i = 0; i < THREADS; i++)
		(void)pthread_join(id[i], NULL);
}

void trace_memory(void)
{
	double before = dirty();

	trace_check(ftrace_set_filter(&ops, "trace_many_*", 0, 1), "ftrace_set_filter");
	print("function_known", before, TRACE_MANY);
	trace_check(register_ftrace_function(&ops), "register_ftrace_function");
	print("function_traced", before, TRACE_MANY);
	trace_check(unregister_ftrace_function(&ops), "unregister_ftrace_function");
	measure_threads();
}
