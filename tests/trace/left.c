/* SPDX-License-Identifier: MIT */
/*
 * A callback is left by a signal handler's siglongjmp(), and the thread changes what is traced
 * before it traces anything again: it is in no callback. At each place in which the stub's frame
 * can lie below the caller's, also within those of the library's call that follow. From within a
 * callback the same is refused, at each depth below it, and on an alternate stack.
 *
 * Controls: SHUNT_CONTROL=not_told: the library's call does not say where it begins; any: whatever
 * lies below its caller's frames, or 3 KiB above, is taken for left.
 */
#include <alloca.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>

#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "core/ftrace.h"

#include "control.h"
#include "tap.h"

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5)))
#define QUIET  __attribute__((noinline, patchable_function_entry(0)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5)))
#define QUIET  __attribute__((noipa, patchable_function_entry(0)))
#endif

#define PLACES 256 /* 16 bytes apart */

DEFINE_CONTROL(is_not_told, "not_told");
DEFINE_CONTROL(is_any, "any");

void __real_shunt_port_trace_called(uintptr_t sp);
void __wrap_shunt_port_trace_called(uintptr_t sp);
QUIET void __wrap_shunt_port_trace_called(uintptr_t sp)
{
	if (!is_not_told)
		__real_shunt_port_trace_called(is_any ? sp + 3072 : sp);
}

TRACED unsigned long traced(unsigned long x);
TRACED unsigned long traced(unsigned long x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static enum { COUNT, LEAVE, CHANGE, CHANGE_IN_HANDLER } what;
static sigjmp_buf away;
static unsigned long calls;
static unsigned refused, taken, depth;
static struct ftrace_ops other;
static struct fgraph_ops graph;

QUIET static void note(int ret)
{
	refused += ret == -EDEADLK;
	taken += ret != -EDEADLK;
}

/* All that is part of the interface. */
QUIET static void change(void)
{
	int ret = register_ftrace_function(&other);

	note(ret);
	note(ret ? unregister_ftrace_function(&other) : 0);
	note(ftrace_set_filter(&other, "traced", 0, 1));
	note(ftrace_set_notrace(&other, NULL, 0, 1));
	ret = register_ftrace_graph(&graph);
	note(ret);
	note(ret ? unregister_ftrace_graph(&graph) : 0);
}

QUIET static void change_deeper(unsigned bytes)
{
	volatile char *room = alloca(bytes + 1);

	room[bytes] = 0;
	change();
	room[bytes] = 1;
}

QUIET static void on_usr1(int sig)
{
	(void)sig;
	if (what == LEAVE)
		siglongjmp(away, 1);
	change();
}

QUIET static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			  struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
	calls++;
	if (what == CHANGE)
		change_deeper(depth);
	else if (what != COUNT)
		(void)raise(SIGUSR1);
}

QUIET static void count_other(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			      struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
}

QUIET static void ignore_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
				struct ftrace_regs *fregs)
{
	(void)trace;
	(void)gops;
	(void)fregs;
}

/* With the smallest frame of a stub. */
static struct ftrace_ops ops = {.func = on_call, .flags = SHUNT_FTRACE_GENERAL_REGS};

QUIET static void call_below(unsigned bytes)
{
	volatile char *room = alloca(bytes + 1);

	room[0] = (char)traced(1);
}

QUIET static bool begin(void)
{
	static char stack[65536];
	const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_ONSTACK};

	other.func = count_other;
	graph.retfunc = ignore_return;
	shunt_set_log(NULL, NULL);
	return !sigaltstack(&alternate, NULL) && !sigaction(SIGUSR1, &action, NULL) &&
	       !ftrace_set_filter(&ops, "traced", 0, 1) &&
	       !ftrace_set_filter(&other, "traced", 0, 1) &&
	       !ftrace_set_filter(&graph.ops, "traced", 0, 1);
}

/* Each of the calls, by itself, behind a callback that was left. */
QUIET static int one_call(unsigned which)
{
	switch (which) {
	case 0:
		return unregister_ftrace_function(&ops);
	case 1:
		return register_ftrace_function(&other);
	case 2:
		return ftrace_set_filter(&ops, "traced", 0, 0);
	case 3:
		return ftrace_set_notrace(&ops, NULL, 0, 1);
	default:
		return register_ftrace_graph(&graph);
	}
}

QUIET static int put_back(unsigned which)
{
	if (which == 0)
		return register_ftrace_function(&ops);
	if (which == 1)
		return unregister_ftrace_function(&other);
	return which == 4 ? unregister_ftrace_graph(&graph) : 0;
}

QUIET static void leave_and_call(unsigned which, unsigned place)
{
	int ret;

	what = LEAVE;
	if (!sigsetjmp(away, 1))
		call_below(16 * place);
	what = COUNT;
	ret = one_call(which);
	note(ret);
	if (!ret)
		note(put_back(which));
}

QUIET static bool left(void)
{
	bool good = begin() && !register_ftrace_function(&ops);

	for (unsigned which = 0; which < 5 && good; which++)
		for (unsigned place = 0; place < PLACES; place++)
			leave_and_call(which, place);
	fprintf(stderr, "# %lu left, %u refused\n", calls, refused);
	return good && calls == 5 * PLACES && taken == 10 * PLACES && !refused;
}

QUIET static bool live(void)
{
	bool good = begin() && !register_ftrace_function(&ops);

	what = CHANGE;
	for (depth = 0; depth < 16 * PLACES; depth += 16)
		(void)traced(1);
	fprintf(stderr, "# %lu callbacks, %u went through\n", calls, taken);
	return good && calls == PLACES && !taken && refused == 6 * PLACES;
}

QUIET static bool in_handler(void)
{
	bool good = begin() && !register_ftrace_function(&ops);

	what = CHANGE_IN_HANDLER;
	for (unsigned place = 0; place < PLACES; place++)
		call_below(16 * place);
	fprintf(stderr, "# %lu callbacks, %u went through\n", calls, taken);
	return good && calls == PLACES && !taken && refused == 6 * PLACES;
}

QUIET int main(void)
{
	row_in_child(left, "behind a callback that was left, the next call is not from one");
	row_in_child(live, "from a callback, at each depth, each call is refused");
	row_in_child(in_handler, "and from a handler on top of it, on an alternate stack");
	return end_rows();
}
