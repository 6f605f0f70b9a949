/* SPDX-License-Identifier: MIT */
/*
 * What the tests of fgraph_ops share (graph.c): an fgraph_ops that counts and checks, for the
 * thread that calls. Its retfunc changes every vector register, so that what is not saved is seen.
 */
#ifndef SHUNT_TESTS_GRAPH_H
#define SHUNT_TESTS_GRAPH_H

#include <stdbool.h>

#include <shunt/ftrace.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef TRACED
#define TRACED KEEP __attribute__((__patchable_function_entry__(5)))
#endif

/* The last events, as they came. */
struct graph_event {
	unsigned long func;
	int depth;
	bool is_return;
};
#define GRAPH_EVENTS 64u

struct graph_counts {
	unsigned long entries, returns;
	long depths; /* of entries less of returns */
	struct graph_event events[GRAPH_EVENTS];
	unsigned nr_events; /* of which the first GRAPH_EVENTS are there */
};
extern __thread struct graph_counts graph_counts;
extern unsigned long graph_entries, graph_returns; /* of all threads; atomic */

extern struct fgraph_ops graph_ops;

/* Find the functions, and register graph_ops. Ends the program where it cannot. */
void graph_begin(void);
void graph_end(void);

/* This thread's counts from 0 on. */
void graph_reset(void);
/* As many returns as entries, at the same depths. */
bool graph_is_balanced(unsigned long calls);
/* Whether the @i'th event was this one. */
bool graph_is(unsigned i, unsigned long func, int depth, bool is_return);

#ifdef __cplusplus
}
#endif

#endif
