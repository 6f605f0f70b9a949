/* SPDX-License-Identifier: MIT */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>

#include <shunt/inspect.h>

__thread struct graph_counts graph_counts;
unsigned long graph_entries, graph_returns;

/* A handler may come in the middle of a count, and its calls count too. */
#define COUNT(counter, n) __atomic_fetch_add(&(counter), n, __ATOMIC_RELAXED)

static void note(unsigned long func, int depth, bool is_return)
{
	struct graph_counts *c = &graph_counts;
	unsigned i = COUNT(c->nr_events, 1);

	if (i < GRAPH_EVENTS)
		c->events[i] = (struct graph_event){func, depth, is_return};
}

static void change_vectors(void)
{
#ifdef __aarch64__
	__asm__ volatile("movi v0.16b, #255\n\tmovi v1.16b, #255\n\tmovi v9.16b, #255\n\t"
			 "movi v31.16b, #255\n\tmsr fpsr, xzr"
			 :
			 :
			 : "v0", "v1", "v9", "v31", "memory");
#else
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tmovdqa %%xmm0, %%xmm1\n\t"
			 "movdqa %%xmm0, %%xmm2\n\tmovdqa %%xmm0, %%xmm15\n\tfninit"
			 :
			 :
			 : "xmm0", "xmm1", "xmm2", "xmm15", "memory");
#endif
}

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)gops;
	(void)regs;
	change_vectors();
	COUNT(graph_counts.entries, 1);
	COUNT(graph_counts.depths, trace->depth);
	COUNT(graph_entries, 1);
	note(trace->func, trace->depth, false);
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *regs)
{
	(void)gops;
	(void)regs;
	change_vectors();
	COUNT(graph_counts.returns, 1);
	COUNT(graph_counts.depths, -trace->depth);
	COUNT(graph_returns, 1);
	note(trace->func, trace->depth, true);
}

struct fgraph_ops graph_ops = {.entryfunc = on_entry, .retfunc = on_return};

void graph_begin(void)
{
	int ret = register_ftrace_graph(&graph_ops);
	if (!ret)
		return;
	printf("Bail out! cannot trace: %d, %s\n", ret, shunt_last_error());
	exit(1);
}

void graph_end(void)
{
	if (unregister_ftrace_graph(&graph_ops))
		exit(1);
}

void graph_reset(void)
{
	graph_counts = (struct graph_counts){0};
}

bool graph_is_balanced(unsigned long calls)
{
	bool good = graph_counts.entries == calls && graph_counts.returns == calls &&
		    !graph_counts.depths;

	if (!good)
		printf("# %lu entries, %lu returns, depths %ld; expected %lu\n",
		       graph_counts.entries, graph_counts.returns, graph_counts.depths, calls);
	return good;
}

bool graph_is(unsigned i, unsigned long func, int depth, bool is_return)
{
	const struct graph_event *e = &graph_counts.events[i];
	bool good = i < graph_counts.nr_events && e->func == func && e->depth == depth &&
		    e->is_return == is_return;

	if (!good)
		printf("# event %u: %lx depth %d %s, expected %lx %d %s\n", i, e->func, e->depth,
		       e->is_return ? "return" : "entry", func, depth,
		       is_return ? "return" : "entry");
	return good;
}
