/* SPDX-License-Identifier: MIT */
/*
 * The benchmark of Shunt, as its files see each other. A measurement takes samples of
 * several cases in turn, round after round (A B C A B C ...), so that a change of
 * clock speed or a busy neighbour hits all of them, and adds a row for each case: the
 * median of its samples, how far they spread, and the ratio to a floor or a peer that
 * was measured in the same rounds.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"

enum { BENCH_ROUNDS_MAX = 64, BENCH_SERIES_MAX = 128 };

/* The samples of one case, one a round. */
struct bench_series {
	char name[64];
	size_t n;
	double v[BENCH_ROUNDS_MAX];
};

/* One line of the result. */
struct bench_row {
	const char *group; /* the measurement: "call", "update" ... */
	const char *unit;
	char name[64];
	size_t rounds;                      /* samples; 0: skipped, and @why says why */
	double min, low, median, high, max; /* low and high: quartiles */
	double p99;                         /* 99 of 100 are below; 0: not told */
	double ratio;                       /* median of the rounds' ratios; 0: none */
	char ratio_to[64];
	const char *line; /* the line of the plot that it is a point of, or NULL */
	double x;         /* where on that line */
	char why[128];
};

struct bench {
	bool quick;
	bool failed;        /* a row is missing that should be there */
	const char *dir;    /* where the programs and the plugin are */
	int cpu[2];         /* the updater's and the other thread's */
	bool has_two;       /* whether they are two */
	double load_before; /* load average of a minute */
	size_t nr_rows, max_rows;
	struct bench_row *rows;
};

/* One case; @run returns a sample, or a negative number where it failed. */
struct bench_case {
	const char *name;
	double (*run)(const void *arg);
	const void *arg;
	int floor; /* index of the case that the ratio is to; -1: none */
};

/* rows.c: rows, and samples to rows. */
struct bench_row *bench_add(struct bench *b, const char *group, const char *unit,
			    const struct bench_series *s, const struct bench_series *floor);
/* The same from samples that belong to no round. */
void bench_add_samples(struct bench *b, const char *group, const char *unit, const char *name,
		       double *v, size_t n);
void bench_skip(struct bench *b, const char *group, const char *name, const char *why);
/* Take @rounds samples of each case, in turn, and add their rows. */
void bench_run(struct bench *b, const char *group, const char *unit, const struct bench_case *cases,
	       size_t n, size_t rounds);
double bench_median(const double *v, size_t n);

/* What is measured; each adds its rows. */
void bench_calls(struct bench *b);
void bench_branches(struct bench *b);
void bench_flips(struct bench *b);
void bench_updates(struct bench *b);
void bench_hammer(struct bench *b);
void bench_sites(struct bench *b);
void bench_startup(struct bench *b);
void bench_trace(struct bench *b);

/* loops_x86_64.S: @calls calls, each taking what the last returned; returns @calls. */
typedef uint64_t bench_loop_fn(uint64_t calls);
bench_loop_fn bench_loop_direct, bench_loop_inline, bench_loop_work;
/* calls.c: point the static call of bench_loop_inline at either of two like functions. */
int bench_retarget(bool other);
/* The same for bench_loop_work, whose calls have some arithmetic between them. */
int bench_retarget_work(bool other);
/* The same for a loop that nobody runs, on a page of its own. */
int bench_retarget_elsewhere(bool other);

/* thread.c: the other thread. It calls @loop until it is stopped. */
int bench_thread_start(const struct bench *b, bench_loop_fn *loop);
uint64_t bench_thread_calls(void); /* made up to now */
void bench_thread_stop(void);

/* gaps.c: the thread of hammer.c, which calls @loop and looks at the clock. */
int bench_hammer_start(const struct bench *b, bench_loop_fn *loop);
uint64_t bench_hammer_calls(void); /* made up to now */
void bench_hammer_sleep(void);     /* have it sleep once, and wait until it has */
bool bench_hammer_stop(void);      /* whether it had its CPU to itself */
long bench_preempted(void);        /* how often the calling thread has been */
/* Nanoseconds that it lost by what held it up between @start and @end. Once it has ended. */
double bench_hammer_lost(double start, double end);

/* programs.c: programs that measure themselves and print "name value" lines. */
struct bench_set {
	size_t n;
	struct bench_series s[BENCH_SERIES_MAX];
};
/*
 * Run @program of b->dir with @mode as its argument and, unless NULL, "NAME=VALUE" @env
 * in its environment; add a sample to each series that it names, with @prefix before
 * the name. Returns NULL, or why it could not.
 */
const char *bench_program(const struct bench *b, const char *program, const char *mode,
			  const char *env, const char *prefix, struct bench_set *set);
const struct bench_series *bench_find(const struct bench_set *set, const char *name);

/* machine.c: where the results are from. */
struct bench_machine {
	char cpu[128], kernel[128];
	int cpus;
	const char *compiler, *poke, *write, *sync;
	double load; /* average of the last minute */
};
void bench_see_machine(struct bench_machine *m);
double bench_load(void);

/* report.c, json.c, svg.c: the results. 0 or -errno. */
void bench_print(const struct bench *b);
int bench_write_json(const struct bench *b, const char *path);
int bench_write_svg(const struct bench *b, const char *path);

/* run.c: everything but tracing, or tracing alone, into the files that are not NULL. 0 or -errno.
 */
int bench_all(bool quick, bool trace, const char *json, const char *svg);

/* tools/bench.c */
int cmd_bench(int argc, char **argv);

#endif
