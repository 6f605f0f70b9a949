/* SPDX-License-Identifier: MIT */
/*
 * Function tracing on a CPU for which there are no stubs: nothing can be traced, and who wants to
 * is told so.
 */
#include <errno.h>

#include <shunt/ftrace.h>

#include "core/ftrace_raw.h"

#include "linux/base/base.h"

static int refuse(void)
{
	shunt_message("function tracing: not on this CPU");
	return -EOPNOTSUPP;
}

int register_ftrace_function(struct ftrace_ops *ops)
{
	(void)ops;
	return refuse();
}

int unregister_ftrace_function(struct ftrace_ops *ops)
{
	(void)ops;
	return -ENOENT;
}

int register_ftrace_graph(struct fgraph_ops *gops)
{
	(void)gops;
	return refuse();
}

int unregister_ftrace_graph(struct fgraph_ops *gops)
{
	(void)gops;
	return -ENOENT;
}

int ftrace_set_filter(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	(void)ops;
	(void)glob;
	(void)len;
	(void)reset;
	return refuse();
}

int ftrace_set_notrace(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	return ftrace_set_filter(ops, glob, len, reset);
}

int ftrace_set_filter_ip(struct ftrace_ops *ops, unsigned long ip, int remove, int reset)
{
	(void)ip;
	(void)remove;
	return ftrace_set_filter(ops, NULL, 0, reset);
}

void ftrace_free_filter(struct ftrace_ops *ops)
{
	(void)ops;
}

/* No callback ever has registers to ask for. */
unsigned long ftrace_regs_get_argument(struct ftrace_regs *fregs, unsigned int n)
{
	(void)fregs;
	(void)n;
	return 0;
}

unsigned long ftrace_regs_get_return_value(struct ftrace_regs *fregs)
{
	(void)fregs;
	return 0;
}

unsigned long ftrace_regs_get_stack_pointer(struct ftrace_regs *fregs)
{
	(void)fregs;
	return 0;
}

unsigned long ftrace_regs_get_instruction_pointer(struct ftrace_regs *fregs)
{
	(void)fregs;
	return 0;
}

int shunt_for_each_function(int (*fn)(const struct shunt_function_info *info, void *arg), void *arg)
{
	(void)fn;
	(void)arg;
	return 0;
}

/* What libshunt-trace asks, which there is none of. */
int shunt_raw_register(struct shunt_raw_ops *raw)
{
	(void)raw;
	return refuse();
}

int shunt_raw_unregister(struct shunt_raw_ops *raw)
{
	(void)raw;
	return -ENOENT;
}

uint64_t shunt_returns_missed(void)
{
	return 0;
}

void shunt_raw_on_unload(void (*fn)(const struct shunt_gone_module *module))
{
	(void)fn;
}

int shunt_sync_signal_number(void)
{
	return 0;
}
