/* SPDX-License-Identifier: MIT */
/* What the stubs call (ftrace_stubs.S of arch/CPU) that do not do it all themselves. */
#include "core/ftrace.h"
#include "linux/entry/context.h"

struct ftrace_ops *shunt_ftrace_begin(struct shunt_cursor *cursor, struct ftrace_regs *regs,
				      uintptr_t which);
struct ftrace_ops *shunt_ftrace_next(struct shunt_cursor *cursor);

static struct ftrace_ops *or_leave(struct shunt_cursor *cursor, struct ftrace_ops *ops)
{
	if (!ops)
		shunt_guard_leave(cursor->guard[0]);
	return ops;
}

struct ftrace_ops *shunt_ftrace_begin(struct shunt_cursor *cursor, struct ftrace_regs *regs,
				      uintptr_t which)
{
	cursor->regs = regs;
	cursor->which = which;
	if (shunt_context && shunt_context->sp)
		shunt_guard_drop((uintptr_t)cursor, shunt_regs_stack(regs));
	if (!shunt_guard_enter((uintptr_t)cursor, &cursor->guard[0]))
		return NULL;
	return or_leave(cursor, shunt_ftrace_first_ops(cursor));
}

struct ftrace_ops *shunt_ftrace_next(struct shunt_cursor *cursor)
{
	return or_leave(cursor, shunt_ftrace_next_ops(cursor));
}
