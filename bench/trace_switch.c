/* SPDX-License-Identifier: MIT */
/*
 * Switching 10 and 10,000 functions on and off while another thread calls all of them, against a
 * poke of as many places in the same way: the instruction and its off form are one byte apart.
 */
#include <pthread.h>
#include <shunt/ftrace.h>
#include <shunt/text_poke.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "trace.h"

static void nothing(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		    struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
}

/* Each of its own, so that each has a stub of its own, and its functions are switched by one byte.
 */
static struct ftrace_ops many = {.func = nothing, .flags = SHUNT_FTRACE_GENERAL_REGS},
			 few = {.func = nothing, .flags = SHUNT_FTRACE_GENERAL_REGS};

/* ---------------------------------------------------------- the other thread */

static struct {
	pthread_t id;
	const uint8_t *_Atomic functions; /* that it calls; NULL: it ends */
	_Atomic bool runs;
} caller;

static void *call_all(void *arg)
{
	const uint8_t *f;

	bench_pin(trace_other_cpu());
	while ((f = atomic_load_explicit(&caller.functions, memory_order_relaxed)) != NULL) {
		for (size_t i = 0; i < TRACE_MANY; i++)
			((void (*)(void))(uintptr_t)(f + i * TRACE_STRIDE))();
		atomic_store_explicit(&caller.runs, true, memory_order_relaxed);
	}
	return arg;
}

static bool start_caller(void)
{
	if (trace_other_cpu() < 0)
		return false;
	atomic_store(&caller.functions, trace_many);
	trace_check(-pthread_create(&caller.id, NULL, call_all, NULL), "pthread_create");
	while (!atomic_load(&caller.runs))
		sched_yield();
	return true;
}

/* ----------------------------------------------------------------- the places */

__attribute__((used)) static void stub(void)
{
}

static uint8_t insns[2][TRACE_MANY][5];

static void make_insns(void)
{
	for (size_t i = 0; i < TRACE_MANY; i++) {
		int32_t distance =
			(int32_t)((intptr_t)stub - (intptr_t)(trace_places + i * TRACE_STRIDE + 5));

		for (size_t on = 0; on < 2; on++) {
			insns[on][i][0] = on ? 0xe8 : 0xa9;
			memcpy(&insns[on][i][1], &distance, sizeof(distance));
		}
	}
}

static void poke(size_t n, bool on)
{
	static struct text_poke pokes[TRACE_MANY];

	for (size_t i = 0; i < n; i++)
		pokes[i] = (struct text_poke){
			.addr = (void *)(uintptr_t)(trace_places + i * TRACE_STRIDE),
			.insn = insns[on][i],
			.len = 5};
	trace_check(text_poke_bp_batch(pokes, n), "text_poke_bp_batch");
}

/* --------------------------------------------------------------- what is measured */

static void trace(size_t n, bool on)
{
	struct ftrace_ops *ops = n == TRACE_MANY ? &many : &few;

	trace_check(on ? register_ftrace_function(ops) : unregister_ftrace_function(ops), "switch");
}

enum { TRIES = 5 };

/* One sample, of switching on [1] and off [0]; the share of the time in which this thread ran. */
static double sample(void (*change)(size_t n, bool on), size_t n, int repeats, double ns[2])
{
	double begin = bench_now(), ran = trace_thread_time(), start;

	ns[0] = ns[1] = 0;
	for (int i = 0; i < repeats; i++)
		for (int on = 1; on >= 0; on--) {
			start = bench_now();
			change(n, on);
			ns[on] += bench_now() - start;
		}
	return (trace_thread_time() - ran) / (bench_now() - begin);
}

/* On a busy machine somebody else may have had the CPU: then it is taken again, up to five times.
 */
static void measure(const char *what, void (*change)(size_t n, bool on), size_t n, int repeats,
		    const char *company)
{
	double ns[2], best[2] = {0, 0}, share = -1;
	char name[64];

	for (int i = 0; i < TRIES && share < 0.9; i++) {
		double had = sample(change, n, repeats, ns);

		if (had <= share)
			continue;
		share = had;
		memcpy(best, ns, sizeof(best));
	}
	for (int on = 0; on < 2; on++) {
		snprintf(name, sizeof(name), "%zu_%s_%s_%s", n, what, on ? "on" : "off", company);
		trace_print(name, best[on] / repeats / (double)n);
	}
}

static void measure_both(size_t n, const char *company)
{
	int repeats = n == TRACE_MANY ? 2 : 20;

	atomic_store(&caller.functions, trace_many);
	measure("trace", trace, n, repeats, company);
	atomic_store(&caller.functions, trace_places);
	measure("poke", poke, n, repeats, company);
}

void trace_switch(void)
{
	double start = bench_now();
	bool has_caller;

	trace_check(ftrace_set_filter(&many, "trace_many_*", 0, 1), "ftrace_set_filter");
	trace_print("10000_found", (bench_now() - start) / TRACE_MANY);
	start = bench_now();
	trace(TRACE_MANY, true);
	trace_print("10000_first", (bench_now() - start) / TRACE_MANY);
	trace(TRACE_MANY, false);
	trace_check(ftrace_set_filter(&few, "trace_few_*", 0, 1), "ftrace_set_filter");
	make_insns();
	poke(TRACE_MANY, false);
	for (int company = 0; company < 2; company++) {
		has_caller = company == 1 && start_caller();
		for (int round = 0; round < (trace_is_quick() ? 5 : 21); round++) {
			if (company == 1 && !has_caller)
				break;
			measure_both(10, company ? "thread" : "alone");
			measure_both(TRACE_MANY, company ? "thread" : "alone");
		}
	}
	if (!has_caller)
		return;
	atomic_store(&caller.functions, NULL);
	(void)pthread_join(caller.id, NULL);
}
