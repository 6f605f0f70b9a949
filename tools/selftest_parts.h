/* SPDX-License-Identifier: MIT */
/* What the files of the self-test (selftest.h) ask of each other. */
#ifndef SHUNT_TOOLS_SELFTEST_PARTS_H
#define SHUNT_TOOLS_SELFTEST_PARTS_H

#include <shunt/inspect.h>

#include <stdbool.h>
#include <stddef.h>

/* Who gets the lines, and how many have said that something is missing. */
struct report {
	void (*say)(const char *line, void *arg);
	void *arg;
	int missing;
};

/* selftest_line.c: one line: @verdict ("ok", "MISSING", "-"), what it is about, details. */
void report_line(struct report *r, const char *verdict, const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* selftest_system.c: report what the kernel allows. */
void report_system(struct report *r);

/*
 * selftest_forms.c: what runs a site, what changes it, and the result for X before and after;
 * whether it is switched on and off by one byte, once it has been on.
 */
struct form {
	const char *name;
	long (*run)(long x);
	int (*change)(bool second);
	long first, second;
	bool is_flip;
};

enum { X = 5 };
extern const struct form forms[];
extern const size_t nr_forms;

/* selftest_ways.c: each way of poking, in the order in which the automatic choice falls to the
 * next. */
struct way {
	const char *name; /* as shunt_get_ways() says it */
	enum shunt_poke_policy policy;
	unsigned policies; /* bits: those that may come to it while threads run */
	bool needs_traps;  /* there is no such way on a CPU without them */
};

enum { WAYS = 5 };
extern const struct way ways[WAYS];

/* selftest_ways.c: change all forms by way of @way while they are executed, and report it. */
void try_way(struct report *r, const struct way *way);

/* selftest_trace.c: a function of each kind of entry that there is, up to one without a name. */
struct traced {
	const char *name, *function;
	long (*run)(long x); /* x + 1 */
};
extern const struct traced traced[];

/* Trace it, and report that. */
void try_traced(struct report *r, const struct traced *t);

#endif
