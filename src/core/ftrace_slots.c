/* SPDX-License-Identifier: MIT */
/*
 * The slots: an ops that is registered has one, as long as there are any, with a stub that calls
 * it: what it alone traces calls that stub. What several trace calls a stub that asks each
 * (ftrace_run.c).
 *
 * A slot that has been used is given to other ops with care. A thread can be on its way from an
 * entry to the slot's stub, for any time, and would then call them for an entry that they do not
 * want. So those get the ops that had it before, or who wants all the entries that it was ever
 * called from; else its stub looks first whether its ops want the entry (shunt_ftrace_slot).
 */
#include "core/ftrace_internal.h"

/* All that a slot's stub was ever called from. */
static struct {
	struct shunt_bits *bits;
	bool is_unknown; /* there was no memory for them */
} used[SHUNT_STUB_SLOTS];

static bool covers(const struct shunt_bits *bits, const struct shunt_bits *part)
{
	for (size_t i = 0; part && i < part->nr_words; i++)
		if (part->words[i] & ~(i < bits->nr_words ? bits->words[i] : 0))
			return false;
	return true;
}

static bool is_free(unsigned slot)
{
	return !atomic_load_explicit(&shunt_ftrace_slots[slot].tracer, memory_order_relaxed);
}

/* Whether its stub need not ask @t whether it wants the entry. */
static bool fits(unsigned slot, const struct shunt_tracer *t)
{
	return !used[slot].is_unknown && covers(t->next_active, used[slot].bits);
}

/*
 * The best free slot of @t's half, + 1: the one that it had, one that fits, one not used yet. What
 * is used once is remembered for good: ops that come and go, with the same entries, take the same.
 */
static unsigned choose_slot(const struct shunt_tracer *t)
{
	unsigned first = t->is_full ? SHUNT_STUB_SLOTS / 2 : 0, any = 0, fitting = 0, unused = 0;
	unsigned own = t->last_slot;

	if (own && is_free(own - 1) && own - 1 - first < SHUNT_STUB_SLOTS / 2 && fits(own - 1, t))
		return own;
	for (unsigned slot = first; slot < first + SHUNT_STUB_SLOTS / 2; slot++) {
		if (!is_free(slot))
			continue;
		any = slot + 1;
		if (!used[slot].bits && !used[slot].is_unknown)
			unused = unused ? unused : slot + 1;
		else if (!fitting && fits(slot, t))
			fitting = slot + 1;
	}
	if (fitting)
		return fitting;
	return unused ? unused : any;
}

void shunt_ftrace_slot_take(struct shunt_tracer *t)
{
	struct shunt_ftrace_slot *s;

	t->slot = SHUNT_HAS_ENTRY_STUBS ? 0 : choose_slot(t);
	if (!t->slot)
		return; /* the lists call it */
	s = &shunt_ftrace_slots[t->slot - 1];
	atomic_store_explicit(&s->tracer, t, memory_order_relaxed);
	atomic_store_explicit(&s->fast, fits(t->slot - 1, t) ? (uintptr_t)t->ops : 1,
			      memory_order_release);
}

void shunt_ftrace_slot_note_used(unsigned slot, const struct shunt_bits *bits)
{
	struct shunt_bits *all = used[slot].bits, *grown;

	if (covers(all ? all : &(struct shunt_bits){0}, bits))
		return;
	if (!all || all->nr_words < bits->nr_words) {
		grown = shunt_bits_alloc();
		for (size_t i = 0; grown && all && i < all->nr_words; i++)
			grown->words[i] = all->words[i];
		if (!grown) {
			used[slot].is_unknown = true;
			return;
		}
		shunt_bits_free(all);
		used[slot].bits = all = grown;
	}
	for (size_t i = 0; i < bits->nr_words; i++)
		all->words[i] |= bits->words[i];
}

void shunt_ftrace_slot_leave(struct shunt_tracer *t)
{
	unsigned slot = t->slot;

	if (!slot)
		return;
	atomic_store_explicit(&shunt_ftrace_slots[slot - 1].fast, 0, memory_order_relaxed);
	atomic_store_explicit(&shunt_ftrace_slots[slot - 1].tracer, NULL, memory_order_release);
	t->last_slot = slot;
	t->slot = 0;
}
