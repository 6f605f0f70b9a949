/* SPDX-License-Identifier: MIT */
#include "trace_moves.h"

#include <errno.h>

#include <shunt/trace.h>

#include "trace_moves_parts.h"

/* Stacks are told apart by pages here: of two threads that run the same stack both have events in
 * one. In words. */
#define PAGE_SHIFT 9u

/* A page on which a thread has events. */
struct use {
	uint32_t page, thread;
	uint64_t first, last; /* ticks: of the thread's first event there; of its last anywhere */
	bool has_orphan;      /* a return without an entry in the thread */
	bool has_open;        /* an entry without a return there */
};

struct hole {
	uint64_t from, to; /* ticks; of those before in their order the latest */
};

struct looker {
	struct trace_file *f;
	struct array uses;  /* of struct use */
	struct array holes; /* of struct hole, by @from: events are missing */
	bool *shares;       /* by thread */
	uint32_t n;
};

/* ----------------------------------------------------------------- who shares stacks */

static int see_holes(struct looker *l, const struct thread_events *t)
{
	const struct gap *gaps = t->gaps.data;

	for (size_t i = 0; i < t->gaps.n; i++) {
		struct hole hole = {gaps[i].at ? t->events[gaps[i].at - 1].ticks : 0,
				    gaps[i].at < t->n ? t->events[gaps[i].at].ticks : UINT64_MAX};

		if (!array_add(&l->holes, &hole, sizeof(hole)))
			return -ENOMEM;
	}
	return 0;
}

static int see_pages(struct looker *l, const struct thread_events *t, uint32_t number)
{
	uint32_t page = 0, *use = NULL;
	struct hash pages = {0};

	for (uint32_t i = 0; i < t->n; i++) {
		const struct event *event = &t->events[i];
		struct use first = {.page = event->stack >> PAGE_SHIFT,
				    .thread = number,
				    .first = event->ticks,
				    .last = t->events[t->n - 1].ticks};

		if (!use || page != first.page)
			use = hash_at(&pages, page = first.page);
		if (!use || (!*use && !array_add(&l->uses, &first, sizeof(first)))) {
			hash_free(&pages);
			return -ENOMEM;
		}
		if (!*use)
			*use = (uint32_t)l->uses.n;
		if (t->mate[i] != TRACE_NONE)
			continue;
		if (is_end(event))
			((struct use *)l->uses.data)[*use - 1].has_orphan = true;
		else
			((struct use *)l->uses.data)[*use - 1].has_open = true;
	}
	hash_free(&pages);
	return see_holes(l, t);
}

static int compare_uses(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	return (x->last > y->last) - (x->last < y->last);
}

/*
 * Of one page: a thread that has no events any more when the next one's begin leaves it its stack,
 * unless what began in one returns in the other. Where all calls return in the threads that they
 * began in nothing moves: a place is but 30 bits of an address, and two stacks may have the same.
 */
static bool is_shared(const struct use *uses, size_t n)
{
	bool any = uses[0].has_orphan || uses[0].has_open, are_mixed = false;

	for (size_t i = 1; i < n; i++) {
		any |= uses[i].has_orphan || uses[i].has_open;
		are_mixed |= uses[i].has_orphan || uses[i].first <= uses[i - 1].last;
	}
	return any && are_mixed;
}

/* Whether any threads share stacks. */
static bool find_shared(struct looker *l)
{
	struct use *uses = l->uses.data;
	bool any = false;
	size_t n;

	if (l->uses.n)
		qsort(uses, l->uses.n, sizeof(*uses), compare_uses);
	for (size_t i = 0; i < l->uses.n; i += n) {
		for (n = 1; i + n < l->uses.n && uses[i + n].page == uses[i].page;)
			n++;
		if (!is_shared(uses + i, n))
			continue;
		any = true;
		for (size_t k = i; k < i + n; k++)
			l->shares[uses[k].thread] = true;
	}
	return any;
}

static int see_threads(struct looker *l)
{
	struct thread_events t;
	int ret = 0;

	for (uint32_t i = 0; i < l->n && !ret; i++) {
		ret = trace_events_load(&t, l->f, trace_thread_at(l->f, i));
		if (ret)
			break;
		ret = see_pages(l, &t, i) ? trace_failed(l->f, ENOMEM) : 0;
		trace_events_free(&t);
		trace_thread_at(l->f, i)->no_return = 0; /* it may not be one that is shown */
	}
	return ret;
}

/* ----------------------------------------------------------------- what is not known */

static int compare_holes(const void *a, const void *b)
{
	const struct hole *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static void sort_holes(struct looker *l)
{
	struct hole *holes = l->holes.data;

	if (l->holes.n)
		qsort(holes, l->holes.n, sizeof(*holes), compare_holes);
	for (size_t i = 1; i < l->holes.n; i++)
		if (holes[i].to < holes[i - 1].to)
			holes[i].to = holes[i - 1].to;
}

/* Whether events that are missing may stand between the two. */
static bool has_hole(const struct looker *l, const struct finder *s, const struct cross *cross)
{
	uint64_t from = event_at(s, cross->entry)->ticks, to = event_at(s, cross->end)->ticks;
	const struct hole *holes = l->holes.data;
	size_t low = 0, high = l->holes.n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (holes[middle].from < to)
			low = middle + 1;
		else
			high = middle;
	}
	if (low && holes[low - 1].to > from)
		return true;
	/* The flight recorder keeps a thread's last events. */
	return l->f->session.mode == SHUNT_TRACE_FLIGHT &&
	       trace_thread_at(l->f, s->parts[cross->end.part].number)->raw.started > from;
}

static void forget_unknown(struct looker *l, struct finder *s)
{
	const struct cross *crosses = s->crosses.data;

	sort_holes(l);
	for (size_t i = 0; i < s->crosses.n; i++) {
		struct ref entry = crosses[i].entry;

		if (!has_hole(l, s, &crosses[i]))
			continue;
		s->parts[entry.part].flags[entry.event] |= EVENT_UNTIMED;
		hash_find(&s->by_entry, ref_key(entry))->value = 0;
		hash_find(&s->by_end, ref_key(crosses[i].end))->value = 0;
	}
}

/* ------------------------------------------------------------------------------------ */

/* Two CPUs' clocks: of what is handed over through memory. */
#define SKEW_NS 200

static int add_part(struct moves *moves, struct trace_file *f, uint32_t number)
{
	struct part part = {.number = number, .dead = UINT64_MAX}, *p;
	const struct file_thread *thread = trace_thread_at(f, number);

	p = array_add(&moves->parts, &part, sizeof(part));
	if (!p)
		return trace_failed(f, ENOMEM);
	if (trace_events_read(&p->t, f, thread))
		return -1;
	trace_thread_at(f, number)->no_return = 0;
	p->up = calloc(p->t.n + 1, sizeof(*p->up));
	p->flags = calloc(p->t.n + 1, sizeof(*p->flags));
	if (!p->up || !p->flags)
		return trace_failed(f, ENOMEM);
	if (thread->has_ended) {
		p->dead = p->t.n ? p->t.events[p->t.n - 1].ticks : 0;
		p->dead = p->dead > thread->alive ? p->dead : thread->alive;
	}
	return 0;
}

static int look_together(struct looker *l, struct moves *moves)
{
	struct finder s = {.f = l->f, .skew = trace_ticks(l->f, SKEW_NS)};
	int ret = 0;

	for (uint32_t i = 0; i < l->n && !ret; i++)
		if (l->shares[i])
			ret = add_part(moves, l->f, i);
	if (ret)
		return ret;
	s.parts = moves->parts.data;
	s.n = (uint32_t)moves->parts.n;
	s.heap = malloc(s.n * sizeof(*s.heap) + 1);
	ret = s.heap ? moves_match(&s) : -ENOMEM;
	if (!ret) {
		forget_unknown(l, &s);
		ret = moves_find_stacks(&s);
	}
	for (uint32_t i = 0; i < s.n; i++) {
		free(s.parts[i].t.events);
		s.parts[i].t.events = NULL;
	}
	free(s.heap);
	hash_free(&s.by_entry);
	hash_free(&s.by_end);
	array_free(&s.crosses);
	return ret ? trace_failed(l->f, -ret) : 0;
}

int trace_moves_find(struct moves *moves, struct trace_file *f)
{
	struct looker l = {.f = f, .n = (uint32_t)f->threads.n};
	int ret;

	if (l.n < 2 || f->session.flags & TRACE_ENTRY_ONLY)
		return 0;
	l.shares = calloc(l.n, sizeof(*l.shares));
	ret = l.shares ? see_threads(&l) : trace_failed(f, ENOMEM);
	if (!ret && find_shared(&l))
		ret = look_together(&l, moves);
	array_free(&l.uses);
	array_free(&l.holes);
	free(l.shares);
	return ret;
}

void trace_moves_apply(const struct moves *moves, struct thread_events *t, struct trace_file *f,
		       uint32_t number)
{
	const struct part *p = moves->parts.data;

	while (p < (struct part *)moves->parts.data + moves->parts.n && p->number != number)
		p++;
	if (p == (struct part *)moves->parts.data + moves->parts.n)
		return;
	memcpy(t->mate, p->t.mate, t->n * sizeof(*t->mate));
	t->up = p->up;
	t->flags = p->flags;
	t->moved = p->moved.data;
	t->moved_n = p->moved.n;
	for (size_t i = 0; i < t->n; i++) {
		if (!(p->flags[i] & EVENT_UNTIMED))
			continue;
		t->events[i].kind = TRACE_CALL;
		trace_thread_at(f, number)->no_return++;
	}
}

void trace_moves_free(struct moves *moves)
{
	struct part *parts = moves->parts.data;

	for (size_t i = 0; i < moves->parts.n; i++) {
		trace_events_free(&parts[i].t);
		free(parts[i].up);
		free(parts[i].flags);
		array_free(&parts[i].moved);
	}
	array_free(&moves->parts);
}
