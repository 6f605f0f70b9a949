/* SPDX-License-Identifier: MIT */
/* What the files of the self-test (selftest.h) ask of each other. */
#ifndef SHUNT_TOOLS_SELFTEST_PARTS_H
#define SHUNT_TOOLS_SELFTEST_PARTS_H

#include <shunt/inspect.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who gets the lines, and how many have said MISSING. */
struct report {
	void (*say)(const char *line, void *arg);
	void *arg;
	int missing;
};

enum { REPORT_LINE = 512 };

/* selftest_line.c: one line: @verdict (selftest.h), what it is about, details. */
void report_line(struct report *r, const char *verdict, const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/*
 * selftest_child.c: what a child tries. @run says one line. Verdicts of what else can happen: its
 * process died, or said nothing; there was none.
 */
struct attempt {
	const char *name;
	void (*run)(struct report *r, const struct attempt *a);
	const void *what; /* @run's own */
	const char *if_died, *if_not_tried;
};

/* selftest_child.c: whether it said "ok". */
bool try_in_child(struct report *r, const struct attempt *a);

/* selftest_text.S: of two pages. */
extern uint8_t selftest_text[];

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
 * next, up to one without a name. */
struct way {
	const char *name; /* as shunt_get_ways() says it */
	enum shunt_poke_policy policy;
	unsigned policies; /* bits: those that may come to it while threads run */
};

extern const struct way ways[];

/* selftest_ways.c: that the sites are those that this program means to try. */
void report_sites(struct report *r);

/* selftest_ways.c: change all forms by way of @a->what while they are executed, and report it. */
void try_way(struct report *r, const struct attempt *a);

/* selftest_trace.c: a function of each kind of entry that there is, up to one without a name. */
struct traced {
	const char *name, *function;
	long (*run)(long x); /* x + 1 */
};
extern const struct traced traced[];

/* Trace the function of @a->what, and report that. */
void try_traced(struct report *r, const struct attempt *a);

#endif
