/* SPDX-License-Identifier: MIT */
/*
 * What stubs of function tracing run: the ops of an entry, one after the other. Any context, the
 * guard set; no lock, no allocation. Sets and tables that are read here stay until the guard has
 * been seen unset (shunt_ftrace_settle()).
 */
#include "core/ftrace_internal.h"

struct shunt_ftrace_slot shunt_ftrace_slots[SHUNT_STUB_SLOTS];
struct shunt_tracer *_Atomic shunt_tracers;

/* Whether @t is called for the cursor's entry, by this stub. */
static bool wants(const struct shunt_cursor *c, struct shunt_tracer *t)
{
	/* Pairs with commit() of ftrace_poke.c. */
	const struct shunt_bits *active = atomic_load_explicit(&t->active, memory_order_acquire);

	if (!shunt_bits_have(active, c->entry->index))
		return false;
	/* A stub that does not save vector registers, from before they were wanted. */
	if (c->which == SHUNT_CURSOR_LIST && t->is_full)
		return false;
	return !shunt_entry_is_exit(c->entry) || (t->ops->flags & SHUNT_FTRACE_EXITS);
}

static struct ftrace_ops *first_from(struct shunt_cursor *c, struct shunt_tracer *t)
{
	while (t && !wants(c, t))
		t = t->next;
	c->tracer = t;
	return t ? t->ops : NULL;
}

/* A slot's ops, if they want the entry: they may have come to the slot after the call of its stub.
 */
static struct ftrace_ops *slot_ops(struct shunt_cursor *c)
{
	struct shunt_ftrace_slot *slot = (struct shunt_ftrace_slot *)c->which;
	struct shunt_tracer *t;

	if (!atomic_load_explicit(&slot->fast, memory_order_acquire))
		return NULL;
	t = atomic_load_explicit(&slot->tracer, memory_order_acquire);
	return t && wants(c, t) ? t->ops : NULL;
}

struct ftrace_ops *shunt_ftrace_first_ops(struct shunt_cursor *c)
{
	c->ip = shunt_regs_ip(c->regs);
	c->parent = shunt_regs_parent(c->regs);
	c->entry = shunt_entry_find(c->ip);
	c->tracer = NULL;
	if (!c->entry)
		return NULL;
	if (c->which > SHUNT_CURSOR_LIST_FULL)
		return slot_ops(c);
	return first_from(c, atomic_load_explicit(&shunt_tracers, memory_order_acquire));
}

struct ftrace_ops *shunt_ftrace_next_ops(struct shunt_cursor *c)
{
	if (c->which > SHUNT_CURSOR_LIST_FULL)
		return NULL;
	c->parent = shunt_regs_parent(c->regs); /* those before may have changed it */
	return first_from(c, c->tracer->next);
}
