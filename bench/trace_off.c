/* SPDX-License-Identifier: MIT */
/* Functions that can be traced and are not, against one that cannot; and callbacks that count. */
#include <shunt/ftrace.h>
#include <stdio.h>

#include "trace.h"

/*
 * A loop of one call and nothing else runs at one of several speeds for milliseconds at a time, on
 * a virtual machine whose host has other work: where a tenth is much, the best of some tries.
 */
enum { ROUNDS = 41, QUICK = 11, CALLS = 100000, TRIES = 5 };

static __thread uint64_t count __attribute__((tls_model("initial-exec")));

static SHUNT_GENERAL_REGS void count_call(unsigned long ip, unsigned long parent,
					  struct ftrace_ops *ops, struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	count++;
}

/* The same, by its flags one that may change vector registers. */
static struct ftrace_ops general = {.func = count_call, .flags = SHUNT_FTRACE_GENERAL_REGS},
			 full = {.func = count_call};

static int rounds(void)
{
	return trace_is_quick() ? QUICK : ROUNDS;
}

/* The best of @tries, each of as many calls in all. */
static double sample_best(const char *what, const struct trace_kind *kind, trace_loop_fn *loop,
			  int threads, int tries)
{
	char name[64];
	double ns = trace_time(loop, CALLS / 20, CALLS, threads), other;

	for (int i = 1; i < tries; i++) {
		other = trace_time(loop, CALLS / 20, CALLS, threads);
		ns = other < ns ? other : ns;
	}
	snprintf(name, sizeof(name), "%d%s%s_%s", threads, kind ? "_" : "", kind ? kind->name : "",
		 what);
	trace_print(name, ns);
	return ns;
}

static double sample(const char *what, const struct trace_kind *kind, trace_loop_fn *loop,
		     int threads)
{
	return sample_best(what, kind, loop, threads, 1);
}

void trace_off(void)
{
	int threads = trace_other_cpu() < 0 ? 1 : 2;

	/* Off is what stands there behind the first time that it was on. */
	for (const struct trace_kind *k = trace_kinds; k->name; k++) {
		trace_check(ftrace_set_filter(&general, k->function, 0, 1), k->function);
		trace_check(register_ftrace_function(&general), "register_ftrace_function");
		trace_check(unregister_ftrace_function(&general), "unregister_ftrace_function");
	}
	for (int round = 0; round < rounds(); round++)
		for (int n = 1; n <= threads; n++) {
			sample_best("plain", NULL, trace_loop_plain, n, TRIES);
			for (const struct trace_kind *k = trace_kinds; k->name; k++) {
				sample_best("off", k, k->loop, n, TRIES);
				sample_best("compiled", k, k->fresh, n, TRIES);
			}
		}
}

static void print_above(const char *what, const struct trace_kind *kind, double above, int threads)
{
	char name[64];

	snprintf(name, sizeof(name), "%d%s%s_%s_above", threads, kind ? "_" : "",
		 kind ? kind->name : "", what);
	trace_print(name, above);
}

/* What a call takes longer than a plain one is a sample of its own. */
static void measure_callback(const char *what, const struct trace_kind *kind,
			     struct ftrace_ops *ops, double plain, int threads)
{
	uint64_t before = count;
	double ns;

	trace_check(ftrace_set_filter(ops, kind->function, 0, 1), kind->function);
	trace_check(register_ftrace_function(ops), "register_ftrace_function");
	ns = sample(what, kind, kind->loop, threads);
	trace_check(unregister_ftrace_function(ops), "unregister_ftrace_function");
	trace_check(count - before != CALLS + CALLS / 20, "calls that were not counted");
	print_above(what, kind, ns - plain, threads);
}

void trace_callbacks(void)
{
	int threads = trace_other_cpu() < 0 ? 1 : 2;

	trace_bare_set(count_call);
	for (int round = 0; round < rounds(); round++)
		for (int n = 1; n <= threads; n++) {
			double plain = sample("plain", NULL, trace_loop_plain, n);

			print_above("bare", NULL, sample("bare", NULL, trace_loop_bare, n) - plain,
				    n);
			for (const struct trace_kind *k = trace_kinds; k->name; k++)
				measure_callback("count", k, &general, plain, n);
			measure_callback("full", &trace_kinds[0], &full, plain, n);
		}
}
