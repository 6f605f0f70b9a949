/* SPDX-License-Identifier: MIT */
/*
 * A child of fork() while another thread is in the middle of a change, after each of its core syncs
 * in turn: the functions work there, and can be traced anew, entries and returns; the parent goes
 * on.
 *
 * *Control:* SHUNT_CONTROL=unrepaired (the linker's --wrap): what was left in the middle is not put
 * in order.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <shunt/ftrace.h>

#include "../api/tap.h"
#include "../common/child.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))

static volatile long sink;
static _Atomic unsigned long entries, returns; /* gcc knows that the functions do not change them */

long inner(long n);
TRACED long inner(long n)
{
	sink = n;
	return n + 1;
}

long outer(long n);
TRACED long outer(long n)
{
	sink = inner(n);
	return sink + 1;
}

/* ---------------------------------------------------------- held in the middle */

static _Atomic int hold_in; /* syncs until then; below 0: never */
static _Atomic bool is_held, may_go;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();

	if (atomic_fetch_sub(&hold_in, 1) == 0) {
		is_held = true;
		while (!may_go)
			sched_yield();
	}
	return ret;
}

void __real_shunt_ftrace_repair(void);
void __wrap_shunt_ftrace_repair(void);
void __wrap_shunt_ftrace_repair(void)
{
	if (!getenv("SHUNT_CONTROL"))
		__real_shunt_ftrace_repair();
}

/* --------------------------------------------------------------------- tracing */

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	entries++;
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *regs)
{
	(void)trace;
	(void)gops;
	(void)regs;
	returns++;
}

static struct fgraph_ops first = {.entryfunc = on_entry, .retfunc = on_return};

static bool are_traced(unsigned long n)
{
	bool good;

	entries = returns = 0;
	good = outer(1) == 3 && entries == n && returns == n;
	if (!good)
		diag("%lu entries, %lu returns, not %lu", atomic_load(&entries),
		     atomic_load(&returns), n);
	return good;
}

static int in_copy(void)
{
	static struct fgraph_ops second = {.entryfunc = on_entry, .retfunc = on_return};

	alarm(120);
	may_go = true;
	if (outer(1) != 3)
		return 2;
	/* It is registered, or is not. */
	(void)unregister_ftrace_graph(&first);
	if (!are_traced(0))
		return 3;
	if (ftrace_set_filter(&second.ops, "inner", 0, 1) ||
	    ftrace_set_filter(&second.ops, "outer", 0, 0) || register_ftrace_graph(&second))
		return 4;
	if (!are_traced(2))
		return 5;
	return unregister_ftrace_graph(&second) || !are_traced(0) ? 6 : 0;
}

static void *change(void *arg)
{
	*(int *)arg = register_ftrace_graph(&first);
	if (!*(int *)arg)
		*(int *)arg = unregister_ftrace_graph(&first);
	is_held = true; /* it was over before */
	return NULL;
}

/* Whether there was such a sync. */
static bool hold_at(int sync, int *status)
{
	pthread_t thread;
	int ret = -1;
	bool was_held;

	is_held = may_go = false;
	hold_in = sync;
	if (pthread_create(&thread, NULL, change, &ret))
		return false;
	while (!is_held)
		sched_yield();
	was_held = hold_in < 0;
	*status = in_child(in_copy);
	may_go = true;
	pthread_join(thread, NULL);
	hold_in = -1;
	if (ret)
		*status = 100 - ret;
	if (!*status && !are_traced(0))
		*status = 200;
	return was_held;
}

int main(void)
{
	int status, sync = 0, bad = 0;

	hold_in = -1;
	alarm(100);
	ok(!ftrace_set_filter(&first.ops, "inner", 0, 1) &&
		   !ftrace_set_filter(&first.ops, "outer", 0, 0),
	   "two functions");
	for (; sync < 40 && hold_at(sync, &status); sync++) {
		if (status)
			diag("behind core sync %d: %d", sync, status);
		bad += status != 0;
	}
	ok(sync > 1 && sync < 40 && !bad, "a copy behind each of %d core syncs", sync);
	return tap_done();
}
