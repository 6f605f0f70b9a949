/* SPDX-License-Identifier: MIT */
/*
 * The end of an fgraph_ops: a function is called in the middle of the unregister, behind each of
 * its core syncs, and each of these fails in turn. Whenever the entry is told, so is the return;
 * and where the unregister has failed, that of the function which it was called in, too: the ops is
 * registered as before. One core sync is made more than for an ftrace_ops, between the end of the
 * returns and the wait for callbacks.
 *
 * Control (SHUNT_CONTROL=returns_first, by the linker's --wrap): returns end before the poke.
 */
#include <errno.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../api/tap.h"
#include "control.h"
#include "core/ftrace_internal.h"
#include "graph.h"
#include "linux/base/base.h"

DEFINE_CONTROL(returns_first, "returns_first");

static volatile long sink;

long inner(long n);
TRACED long inner(long n)
{
	sink = n;
	return n + 1;
}

/* ---------------------------------------------------------- the core syncs */

static bool is_watched;
static int fail_at = -1, syncs; /* fail_at: below 0: none */
static unsigned long told;      /* calls in the middle whose entry was told */

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	unsigned long before = graph_counts.entries;
	int ret = __real_shunt_port_core_sync();

	if (!is_watched)
		return ret;
	sink = inner(1);
	told += graph_counts.entries - before;
	if (syncs++ != fail_at)
		return ret;
	shunt_failed_call = "membarrier";
	return -EIO;
}

int __real_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report);
int __wrap_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report);
int __wrap_shunt_ftrace_change(struct shunt_entries *only, bool must_sync,
			       struct shunt_report *report)
{
	struct shunt_tracer *t = shunt_tracers;
	int ret;

	while (t && (!t->is_changing || t->next_active || !t->returns))
		t = t->next;
	if (returns_first && t)
		t->returns->end(t->ops);
	ret = __real_shunt_ftrace_change(only, must_sync, report);
	if (returns_first && t && ret)
		(void)t->returns->begin(t->ops, true);
	return ret;
}

/* ---------------------------------------------------------- the unregister */

static int unregister(int n)
{
	int ret;

	fail_at = n;
	syncs = 0;
	is_watched = true;
	ret = unregister_ftrace_graph(&graph_ops);
	is_watched = false;
	return ret;
}

int outer(int n);
TRACED int outer(int n)
{
	int ret = unregister(n);

	sink = ret;
	return ret;
}

static bool is_registered(void)
{
	graph_reset();
	return inner(1) == 2 && graph_is_balanced(1);
}

static bool is_balanced(const char *what, int n)
{
	bool good = graph_counts.entries == graph_counts.returns && !graph_counts.depths;

	if (!good)
		diag("%s, with core sync %d failing: %lu entries, %lu returns", what, n,
		     graph_counts.entries, graph_counts.returns);
	return good;
}

/* @call with the core sync number @n failing: *is_last: there were fewer. */
static bool fail_one(int (*call)(int n), int n, bool *is_last)
{
	bool good;
	int ret;

	graph_begin();
	graph_reset();
	ret = call(n);
	*is_last = syncs <= n;
	/* The function that it is called in returns behind it. */
	if (!ret && call == outer)
		graph_counts.entries--;
	good = is_balanced(call == outer ? "within" : "outside", n);
	if (ret)
		return is_registered() && !unregister(-1) && good;
	graph_reset();
	return inner(1) == 2 && graph_is_balanced(0) && good;
}

static bool fail_each(int (*call)(int n), enum shunt_poke_policy policy)
{
	bool good = !shunt_set_poke(policy), is_last = false;
	int n = 0;

	told = 0;
	for (; good && !is_last && n < 40; n++)
		good = fail_one(call, n, &is_last);
	return !shunt_set_poke(SHUNT_POKE_AUTO) && good && n > 2 && told;
}

/* -------------------------------------------------- the core sync behind it */

static void on_entry(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
}

static bool has_one_more_sync(void)
{
	struct ftrace_ops ops = {.func = on_entry};
	int plain;

	if (ftrace_set_filter(&ops, "inner", 0, 1) || register_ftrace_function(&ops))
		return false;
	syncs = 0;
	is_watched = true;
	plain = unregister_ftrace_function(&ops) ? -1 : syncs;
	is_watched = false;
	graph_begin();
	return plain > 0 && !unregister(-1) && syncs == plain + 1;
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	if (ftrace_set_filter(&graph_ops.ops, "inner", 0, 1) ||
	    ftrace_set_filter(&graph_ops.ops, "outer", 0, 0)) {
		printf("Bail out! %s\n", shunt_last_error());
		return 1;
	}
	graph_begin(); /* entries are made ready */
	graph_end();
	ok(fail_each(unregister, SHUNT_POKE_INT3), "entries and returns in an unregister, by int3");
	ok(fail_each(unregister, SHUNT_POKE_REMAP), "by remap");
	ok(fail_each(unregister, SHUNT_POKE_AUTO), "as it is set");
	ok(fail_each(outer, SHUNT_POKE_INT3), "in a function that is traced, by int3");
	ok(fail_each(outer, SHUNT_POKE_AUTO), "as it is set");
	ok(has_one_more_sync(), "a core sync between the end of the returns and the wait");
	return tap_done();
}
