/* SPDX-License-Identifier: MIT */
/*
 * Returns of functions that the library finds by itself, compiled with each kind of entries that
 * the compiler has: told by return stubs, by XRay's sleds, by the calls of -finstrument-functions.
 * Each entry has its return, at its depth, also behind longjmp() and with alloca(); on and off.
 * What a function returns is told where it is known, and 0 where it is not: never another register.
 *
 * *Control:* SHUNT_CONTROL=untraced: one function is left out, with its entry and its return.
 */
#include <stdlib.h>
#include <string.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "../api/tap.h"
#include "found_functions.h"

static unsigned long entries, returns, wrong;
static unsigned long at_entries, value; /* returned, at any entry; at the last return */
static int depth, base;                 /* now, and outside of all */

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *gops,
		    struct ftrace_regs *regs)
{
	(void)gops;
	at_entries |= ftrace_regs_get_return_value(regs);
	if (!entries++)
		depth = base = trace->depth;
	wrong += trace->depth != depth++;
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
		      struct ftrace_regs *regs)
{
	(void)gops;
	value = ftrace_regs_get_return_value(regs);
#ifdef __aarch64__
	__asm__ volatile("movi v0.16b, #255" : : : "v0");
#else
	__asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tfninit" : : : "xmm0");
#endif
	wrong += trace->depth != --depth;
	returns++;
}

static bool was(unsigned long calls)
{
	bool good = entries == calls && returns == entries && !wrong && depth == base;

	if (!good)
		diag("%lu entries, %lu returns, %lu at a wrong depth, %d open", entries, returns,
		     wrong, depth - base);
	entries = returns = wrong = 0;
	depth = base = 0;
	return good;
}

static bool void_calls(void)
{
	found_void(1);
	found_void_outer(2);
	found_void_big(3);
	found_void_recurse(4);
	found_void_alloca(5);
	found_void_alloca(50);
	found_void_inlined(6);
	return found_sink == 1;
}

static bool calls(void)
{
	return found_recurse(20) == 20 && found_tail(3) == 7 && found_tail(4) == 4 &&
	       found_inlined(1) == 7 && found_alloca(5) == 10 && found_alloca(100) == 200 &&
	       found_precise(0.5L) == 1.5L;
}

static void jump(void)
{
	if (!setjmp(found_place))
		found_sink = found_jump(5);
}

int main(int argc, char **argv)
{
	bool is_known = argc < 2 || strcmp(argv[1], "instrument") != 0, good;
	struct fgraph_ops ops = {.entryfunc = on_entry, .retfunc = on_return};

	if (ftrace_set_filter(&ops.ops, "found_*", 0, 1)) {
		printf("Bail out! %s\n", shunt_last_error());
		return 1;
	}
	if (getenv("SHUNT_CONTROL") && ftrace_set_notrace(&ops.ops, "found_void_alloca", 0, 0))
		return 1;
	ok(!register_ftrace_graph(&ops) && calls() && was(35), "returns, and their depths");
	good = found_alloca(100) == 200;
	ok(good && value == (is_known ? 200 : 0) && !at_entries,
	   "a value, where it is known: %lu; at entries: %lu", value, at_entries);
	entries = returns = wrong = 0;
	depth = base = 0;
	ok(void_calls() && was(is_known ? 16 : 17), "of functions that return nothing");
	ok(!unregister_ftrace_graph(&ops), "unregistered");
	for (int round = 0; round < 3; round++) {
		ok(!register_ftrace_graph(&ops) && calls() && returns == entries && entries >= 12,
		   "each entry has its return");
		jump();
		entries = returns = wrong = 0; /* of what it has left nothing is known */
		ok(calls() && returns == entries && entries >= 12, "and behind longjmp()");
		entries = returns = wrong = 0;
		depth = base = 0;
		entries = returns = 0;
		ok(!unregister_ftrace_graph(&ops) && calls() && !entries && !returns,
		   "none behind the unregister");
	}
	return tap_done();
}
