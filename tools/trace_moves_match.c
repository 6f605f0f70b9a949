/* SPDX-License-Identifier: MIT */
/*
 * Each return with its entry, over threads: the last one of its place. The clocks of two CPUs may
 * be apart by less than it takes to hand a coroutine over, so that a return stands before its
 * entry, or behind the next one at that place: what comes next there tells.
 */
#include <errno.h>

#include "trace_moves_parts.h"

/* Of one place: entries that are open, and returns that the clock has put elsewhere. */
struct slot {
	struct ref open, before; /* @before: the one before it, which has not returned either */
	struct ref early;        /* a return, just before @open was entered */
	struct ref late;         /* one just behind it, perhaps that of @before */
};

struct matcher {
	struct finder *s;
	struct hash keys;   /* number of the slot + 1 */
	struct array slots; /* of struct slot */
};

static const struct ref nothing = {TRACE_NONE, TRACE_NONE};

static bool is(struct ref ref)
{
	return ref.part != TRACE_NONE;
}

/* Where returns say of which function they are, calls that are inlined have the same place. */
static uint64_t key_of(const struct trace_file *f, const struct event *event)
{
	bool says = is_end(event) ? event->function != TRACE_NONE : trace_may_be_inlined(f, event);

	return says ? ((uint64_t)event->function + 1) << TRACE_STACK_BITS | event->stack
		    : event->stack;
}

/* Whether their order may be the other one. */
static bool is_tie(const struct finder *s, struct ref a, struct ref b)
{
	return a.part != b.part && event_at(s, b)->ticks - event_at(s, a)->ticks <= s->skew;
}

static int pair(struct finder *s, struct ref entry, struct ref end)
{
	struct cross cross = {entry, end};
	uint32_t *by_entry, *by_end;

	if (entry.part == end.part) {
		s->parts[entry.part].t.mate[entry.event] = end.event;
		s->parts[entry.part].t.mate[end.event] = entry.event;
		return 0;
	}
	by_entry = hash_at(&s->by_entry, ref_key(entry));
	by_end = hash_at(&s->by_end, ref_key(end));
	if (!by_entry || !by_end || !array_add(&s->crosses, &cross, sizeof(cross)))
		return -ENOMEM;
	*by_entry = *by_end = (uint32_t)s->crosses.n;
	return 0;
}

/* No return has come behind @slot->open and before what is next at this place. */
static int settle(struct finder *s, struct slot *slot, bool is_last)
{
	int ret = 0;

	if (is(slot->late))
		ret = pair(s, is_last ? slot->before : slot->open, slot->late);
	else if (is(slot->open) && is(slot->early))
		ret = pair(s, slot->open, slot->early);
	else
		return 0;
	*slot = (struct slot){nothing, nothing, nothing, nothing};
	return ret;
}

static int take_entry(struct finder *s, struct slot *slot, struct ref entry)
{
	if (settle(s, slot, false))
		return -ENOMEM;
	if (is(slot->early) && !is_tie(s, slot->early, entry))
		slot->early = nothing;
	slot->before = slot->open;
	slot->open = entry;
	return 0;
}

static int take_end(struct finder *s, struct slot *slot, struct ref end)
{
	int ret = 0;

	if (!is(slot->open)) {
		slot->early = end;
		return 0;
	}
	if (is(slot->before) && !is(slot->late) && is_tie(s, slot->open, end)) {
		slot->late = end;
		return 0;
	}
	if (is(slot->late))
		ret = pair(s, slot->before, slot->late);
	if (!ret)
		ret = pair(s, slot->open, end);
	*slot = (struct slot){nothing, nothing, nothing, nothing};
	return ret;
}

static int take(struct matcher *m, struct ref ref)
{
	const struct event *event = event_at(m->s, ref);
	const struct slot empty = {nothing, nothing, nothing, nothing};
	uint32_t *number = hash_at(&m->keys, key_of(m->s->f, event));
	struct slot *slot;

	if (!number || (!*number && !array_add(&m->slots, &empty, sizeof(empty))))
		return -ENOMEM;
	if (!*number)
		*number = (uint32_t)m->slots.n;
	slot = (struct slot *)m->slots.data + *number - 1;
	if (is_end(event))
		return take_end(m->s, slot, ref);
	if (event->kind == TRACE_ENTRY)
		return take_entry(m->s, slot, ref);
	if (settle(m->s, slot, false))
		return -ENOMEM;
	*slot = empty;
	return 0;
}

static int match_places(struct matcher *m)
{
	struct slot *slots;
	struct ref ref;

	for (moves_rewind(m->s); moves_next(m->s, &ref); moves_step(m->s))
		if (take(m, ref))
			return -ENOMEM;
	slots = m->slots.data;
	for (size_t i = 0; i < m->slots.n; i++)
		if (settle(m->s, &slots[i], true))
			return -ENOMEM;
	return 0;
}

/* ------------------------------------------- returns that are told at another place */

/* See trace_events.c, which does so in a thread that shares no stacks. */
#define FRAME (1u << 17)
#define LOOKS 64u

static uint32_t find_own(const struct part *p, uint32_t last, const struct event *event)
{
	uint32_t below = 0, above = 0;

	for (unsigned looks = 0; last && looks < LOOKS; looks++, last = p->up[last - 1]) {
		uint32_t place = p->t.events[last - 1].stack;

		if (p->t.mate[last - 1] != TRACE_NONE)
			continue;
		if (place < event->stack && event->stack - place < FRAME &&
		    (!below || place > p->t.events[below - 1].stack))
			below = last;
		if (place > event->stack && place - event->stack < FRAME && !above)
			above = last;
	}
	return below ? below : above;
}

/* What has no mate, in one thread. @p->up is free: of an entry, the one of its function before. */
static int match_functions(struct finder *s, uint32_t number)
{
	struct part *p = &s->parts[number];
	struct hash functions = {0};
	int ret = 0;

	for (uint32_t i = 0; i < p->t.n && !ret; i++) {
		struct event *event = &p->t.events[i];
		struct ref ref = {number, i};
		uint32_t *last, entry;

		if (p->t.mate[i] != TRACE_NONE || event->function == TRACE_NONE ||
		    (event->kind != TRACE_ENTRY && event->kind != TRACE_RETURN) ||
		    hash_get(is_end(event) ? &s->by_end : &s->by_entry, ref_key(ref)))
			continue;
		last = hash_at(&functions, event->function);
		if (!last) {
			ret = -ENOMEM;
		} else if (event->kind == TRACE_ENTRY) {
			p->up[i] = *last;
			*last = i + 1;
		} else {
			entry = find_own(p, *last, event);
			if (!entry)
				continue;
			ret = pair(s, (struct ref){number, entry - 1}, ref);
			event->stack = p->t.events[entry - 1].stack;
		}
	}
	hash_free(&functions);
	return ret;
}

int moves_match(struct finder *s)
{
	struct matcher m = {.s = s};
	int ret = 0;

	for (uint32_t i = 0; i < s->n; i++)
		memset(s->parts[i].t.mate, 0xff, s->parts[i].t.n * sizeof(uint32_t));
	ret = match_places(&m);
	for (uint32_t i = 0; i < s->n && !ret; i++)
		ret = match_functions(s, i);
	hash_free(&m.keys);
	array_free(&m.slots);
	return ret;
}
