/* SPDX-License-Identifier: MIT */
/*
 * The program of `shunt bench trace` (trace_main.c), between its files: the functions that it
 * traces, and how it measures. It prints "name value" lines, one for each sample.
 */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ftrace_ops;
struct ftrace_regs;

typedef uint64_t trace_loop_fn(uint64_t calls);

/* Each of a way in which a function can be made traceable: two functions alike, and loops of them.
 */
struct trace_kind {
	const char *name;
	const char *function; /* the one that is traced */
	trace_loop_fn *loop;  /* calls it */
	trace_loop_fn *fresh; /* calls the other one, which is as it was compiled */
	bool is_sled;         /* its return is told by itself */
};

/* trace_kinds.c: those that were built, up to one without a name. */
extern const struct trace_kind trace_kinds[];

/*
 * trace_loops.S: loops of a function that is not traceable, of one that reads the clock twice, and
 * of one that calls the bare stub (trace_bare.S), which calls what was set last.
 */
#define TRACE_HIDDEN __attribute__((visibility("hidden")))
TRACE_HIDDEN trace_loop_fn trace_loop_plain, trace_loop_clock, trace_loop_bare;
void trace_bare_set(void (*func)(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				 struct ftrace_regs *regs));

/* trace_many.S: ten and so many functions of 16 bytes that can be traced; places to be poked. */
enum { TRACE_MANY = 10000, TRACE_STRIDE = 16 };
extern TRACE_HIDDEN const uint8_t trace_many[], trace_places[];

/* trace_main.c: all end the program where something fails. */
void trace_check(int error, const char *what);
bool trace_is_quick(void);
void trace_print(const char *name, double value);
/*
 * Run @loop on the first two CPUs, @threads (1 or 2) at a time, @calls times each, behind @warm
 * calls that are not measured: nanoseconds of a thread's own time a call, the mean of the CPUs, of
 * which one may be slower. How many ran in all: trace_runs().
 */
double trace_time(trace_loop_fn *loop, uint64_t warm, uint64_t calls, int threads);
int trace_runs(void);
/* Nanoseconds for which this thread has run. */
double trace_thread_time(void);
/* The CPU of the other thread; negative: there is none. */
int trace_other_cpu(void);

/* What is measured, each printing its lines. */
void trace_off(void);       /* trace_off.c */
void trace_callbacks(void); /* trace_off.c */
void trace_recorded(void);  /* trace_recorded.c */
void trace_switch(void);    /* trace_switch.c */
void trace_memory(void);    /* trace_memory.c */

#endif
