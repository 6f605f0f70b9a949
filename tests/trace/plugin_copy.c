/* SPDX-License-Identifier: MIT */
/* What plugin_copies.c loads: a plugin that traces by a libshunt of its own. */
#include <shunt/ftrace.h>
#include <shunt/inspect.h>

#include "linux/entry/entries.h"

int copy_filter(const char *glob);
int copy_on(const char *without);
int copy_off(void);
int copy_graph_on(const char *glob);
int copy_graph_off(void);
int copy_list(void);
int copy_restore(void);
long copy_calls(void);
const char *copy_error(void);
void copy_log(void (*fn)(const char *, void *));
void copy_at_end(void (*fn)(void));

static long calls;
static void (*at_end)(void);

static void count(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		  struct ftrace_regs *regs)
{
	(void)ip, (void)parent, (void)ops, (void)regs;
	calls++;
}

static void count_return(struct ftrace_graph_ret *trace, struct fgraph_ops *gops,
			 struct ftrace_regs *regs)
{
	(void)trace, (void)gops, (void)regs;
	calls++;
}

static struct ftrace_ops ops = {.func = count};
static struct fgraph_ops graph = {.retfunc = count_return};

int copy_filter(const char *glob)
{
	return ftrace_set_filter(&ops, glob, 0, 1);
}

/* What others trace is left out: an entry is one libshunt's. */
int copy_on(const char *without)
{
	if (without && ftrace_set_notrace(&ops, without, 0, 1))
		return -1;
	return register_ftrace_function(&ops);
}

int copy_off(void)
{
	return unregister_ftrace_function(&ops);
}

int copy_graph_on(const char *glob)
{
	int ret = ftrace_set_filter(&graph.ops, glob, 0, 1);

	return ret ? ret : register_ftrace_graph(&graph);
}

int copy_graph_off(void)
{
	return unregister_ftrace_graph(&graph);
}

static int pass(const struct shunt_function_info *info, void *arg)
{
	(void)info, (void)arg;
	return 0;
}

int copy_list(void)
{
	return shunt_for_each_function(pass, NULL);
}

int copy_restore(void)
{
	size_t left;

	return shunt_entries_restore(&left);
}

long copy_calls(void)
{
	long n = calls;

	calls = 0;
	return n;
}

const char *copy_error(void)
{
	return shunt_last_error();
}

void copy_log(void (*fn)(const char *, void *))
{
	shunt_set_log(fn, NULL);
}

void copy_at_end(void (*fn)(void))
{
	at_end = fn;
}

__attribute__((destructor)) static void end(void)
{
	if (at_end)
		at_end();
}
