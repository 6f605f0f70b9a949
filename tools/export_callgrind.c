/* SPDX-License-Identifier: MIT */
/*
 * Callgrind's format: what is a function's own, and what each that it calls took. Inner calls of a
 * recursion are counted, and take nothing: their time is part of the outermost one's.
 */
#include <errno.h>
#include <inttypes.h>

#include "export.h"
#include "trace_calls.h"

struct edge {
	uint32_t from, to;
	uint64_t calls, total; /* ticks */
};

struct callgrind {
	struct export *e;
	struct array self;   /* of uint64_t, by function */
	struct array edges;  /* of struct edge */
	struct hash numbers; /* by caller and callee: edge + 1 */
};

static int enter(void *context, struct call *call)
{
	struct callgrind *g = context;
	const uint64_t none = 0;

	while (g->self.n <= call->function)
		if (!array_add(&g->self, &none, sizeof(none)))
			return trace_failed(g->e->f, ENOMEM);
	return 0;
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	struct callgrind *g = context;
	struct edge new = {.to = call->function};
	struct edge *edge;
	uint32_t *number;

	(void)how;
	((uint64_t *)g->self.data)[call->function] += call->self;
	if (!call->parent)
		return 0;
	new.from = call->parent->function;
	number = hash_at(&g->numbers, (uint64_t) new.from << 32 | new.to);
	if (!number || (!*number && !array_add(&g->edges, &new, sizeof(new))))
		return trace_failed(g->e->f, ENOMEM);
	if (!*number)
		*number = (uint32_t)g->edges.n;
	edge = (struct edge *)g->edges.data + *number - 1;
	edge->calls++;
	if (call->timed && !call->recursive)
		edge->total += ticks - call->start;
	return 0;
}

static int by_caller(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return x->to < y->to ? -1 : x->to > y->to;
}

/* Sources are not known: "???", which callgrind_annotate does not look for. */
static void put_function(struct callgrind *g, bool callee, uint32_t function)
{
	(void)fprintf(g->e->out, callee ? "cob=%s\ncfi=???\ncfn=" : "ob=%s\nfl=???\nfn=",
		      trace_function_module(g->e->f, function));
	(void)fprintf(g->e->out, "(%" PRIu32 ") %s\n", function + 1,
		      trace_function_name(g->e->f, function));
}

static void put_all(struct callgrind *g)
{
	const struct edge *edge = g->edges.data, *end = edge + g->edges.n;
	struct trace_file *f = g->e->f;

	(void)fprintf(g->e->out,
		      "# callgrind format\nversion: 1\ncreator: shunt " SHUNT_VERSION
		      "\npid: %" PRIu32 "\ncmd: %s\npositions: line\nevents: ns\n",
		      f->session.pid, f->command);
	for (uint32_t i = 0; i < g->self.n; i++) {
		(void)fputc('\n', g->e->out);
		put_function(g, false, i);
		(void)fprintf(g->e->out, "0 %" PRIu64 "\n",
			      trace_ns(f, ((uint64_t *)g->self.data)[i]));
		for (; g->edges.n && edge < end && edge->from == i; edge++) {
			put_function(g, true, edge->to);
			(void)fprintf(g->e->out, "calls=%" PRIu64 " 0\n0 %" PRIu64 "\n",
				      edge->calls, trace_ns(f, edge->total));
		}
	}
}

int export_callgrind(struct export *e)
{
	struct callgrind g = {.e = e};
	const struct trace_visitor visitor = {.context = &g, .enter = enter, .leave = leave};
	int ret = trace_walk(e->f, e->tid, &visitor);

	if (!ret) {
		if (g.edges.n)
			qsort(g.edges.data, g.edges.n, sizeof(struct edge), by_caller);
		put_all(&g);
	}
	array_free(&g.self);
	array_free(&g.edges);
	hash_free(&g.numbers);
	return ret;
}
