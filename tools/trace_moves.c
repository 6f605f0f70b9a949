/* SPDX-License-Identifier: MIT */
#include "trace_moves.h"

#include <errno.h>

#include <shunt/trace.h>

/* How far nested calls are seen to be from a call that moves, in words; how many are looked at. */
#define NEAR  1024u
#define LOOKS 64u

/* An entry or its end, where events of several threads are. */
struct place {
	uint64_t key, ticks;
	uint32_t thread, event, place, kind;
};

struct hole {
	uint64_t from, to; /* ticks; of those before in their order the latest */
};

struct finder {
	struct trace_file *f;
	struct moves *moves;
	struct hash keys; /* of returns without an entry: whose events have the same key */
	bool any_shared;
	struct array places;   /* of struct place, by key and time */
	struct array holes;    /* of struct hole, by @from: events are missing */
	struct array by_place; /* of uint32_t: moves out, by place and start */
};

static bool is_end(const struct event *event)
{
	return event->kind == TRACE_RETURN || event->kind == TRACE_TAIL;
}

/* Where returns say of which function they are, calls that are inlined have the same place. */
static uint64_t key_of(const struct trace_file *f, const struct event *event)
{
	bool says = is_end(event) ? event->function != TRACE_NONE : trace_may_be_inlined(f, event);

	return says ? ((uint64_t)event->function + 1) << TRACE_STACK_BITS | event->stack
		    : event->stack;
}

static int each_thread(struct finder *s,
		       int (*see)(struct finder *s, const struct thread_events *t, uint32_t number))
{
	struct thread_events t;
	int ret = 0;

	for (uint32_t i = 0; i < s->f->threads.n && !ret; i++) {
		ret = trace_events_load(&t, s->f, trace_thread_at(s->f, i));
		if (ret)
			break;
		ret = see(s, &t, i);
		trace_events_free(&t);
		trace_thread_at(s->f, i)->no_return = 0; /* it may not be one that is shown */
	}
	return ret;
}

/* --------------------------------------------------------------------- shared places */

/* Of a key: a number of the thread whose events alone it has, or SHARED. */
#define ONLY(thread) ((thread) + 1)
#define SHARED       UINT32_MAX

static int see_holes(struct finder *s, const struct thread_events *t)
{
	const struct gap *gaps = t->gaps.data;

	for (size_t i = 0; i < t->gaps.n; i++) {
		struct hole hole = {gaps[i].at ? t->events[gaps[i].at - 1].ticks : 0,
				    gaps[i].at < t->n ? t->events[gaps[i].at].ticks : UINT64_MAX};

		if (!array_add(&s->holes, &hole, sizeof(hole)))
			return trace_failed(s->f, ENOMEM);
	}
	return 0;
}

/* Returns without an entry. */
static int see_ends(struct finder *s, const struct thread_events *t, uint32_t number)
{
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t *users;

		if (!is_end(&t->events[i]) || t->mate[i] != TRACE_NONE)
			continue;
		users = hash_at(&s->keys, key_of(s->f, &t->events[i]));
		if (!users)
			return trace_failed(s->f, ENOMEM);
		*users = *users && *users != ONLY(number) ? SHARED : ONLY(number);
	}
	return see_holes(s, t);
}

/* Whether entries of other threads are there, too. */
static int see_users(struct finder *s, const struct thread_events *t, uint32_t number)
{
	for (uint32_t i = 0; i < t->n; i++) {
		uint64_t key = key_of(s->f, &t->events[i]);
		uint32_t users = t->events[i].kind == TRACE_ENTRY ? hash_get(&s->keys, key) : 0;

		if (!users || users == ONLY(number))
			continue;
		hash_find(&s->keys, key)->value = SHARED;
		s->any_shared = true;
	}
	return 0;
}

static int see_shared(struct finder *s, const struct thread_events *t, uint32_t number)
{
	for (uint32_t i = 0; i < t->n; i++) {
		const struct event *event = &t->events[i];
		struct place place = {.key = key_of(s->f, event),
				      .ticks = event->ticks,
				      .thread = number,
				      .event = i,
				      .place = event->stack,
				      .kind = event->kind};

		if (event->kind != TRACE_CALL && hash_get(&s->keys, place.key) == SHARED &&
		    !array_add(&s->places, &place, sizeof(place)))
			return trace_failed(s->f, ENOMEM);
	}
	return 0;
}

static int compare_events(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->ticks != y->ticks)
		return x->ticks < y->ticks ? -1 : 1;
	if (x->thread != y->thread)
		return x->thread < y->thread ? -1 : 1;
	return (x->event > y->event) - (x->event < y->event);
}

/* ----------------------------------------------------------------------------- moves */

static int compare_holes(const void *a, const void *b)
{
	const struct hole *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static void sort_holes(struct finder *s)
{
	struct hole *holes = s->holes.data;

	if (s->holes.n)
		qsort(holes, s->holes.n, sizeof(*holes), compare_holes);
	for (size_t i = 1; i < s->holes.n; i++)
		if (holes[i].to < holes[i - 1].to)
			holes[i].to = holes[i - 1].to;
}

/* Whether events that are missing may stand between the two. */
static bool has_hole(const struct finder *s, const struct place *entry, const struct place *end)
{
	const struct hole *holes = s->holes.data;
	size_t low = 0, high = s->holes.n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (holes[middle].from < end->ticks)
			low = middle + 1;
		else
			high = middle;
	}
	if (low && holes[low - 1].to > entry->ticks)
		return true;
	/* The flight recorder keeps a thread's last events. */
	return s->f->session.mode == SHUNT_TRACE_FLIGHT &&
	       trace_thread_at(s->f, end->thread)->raw.started > entry->ticks;
}

static int add_move(struct finder *s, const struct place *entry, const struct place *end)
{
	struct move move = {.from = entry->thread,
			    .to = end->thread,
			    .entry = entry->event,
			    .end = end->event,
			    .start = entry->ticks,
			    .ticks = end->ticks,
			    .left = end->ticks,
			    .place = entry->place,
			    .kind = end->kind,
			    .is_known = !has_hole(s, entry, end)};

	return array_add(&s->moves->out, &move, sizeof(move)) ? 0 : trace_failed(s->f, ENOMEM);
}

/* A return, and the last entry at its place, if that is in another thread. */
static int join(struct finder *s)
{
	const struct place *all = s->places.data, *last = NULL;

	if (s->places.n)
		qsort(s->places.data, s->places.n, sizeof(struct place), compare_events);
	for (size_t i = 0; i < s->places.n; i++) {
		if (last && last->key != all[i].key)
			last = NULL;
		if (all[i].kind == TRACE_ENTRY) {
			last = &all[i];
			continue;
		}
		if (last && last->thread != all[i].thread && add_move(s, last, &all[i]))
			return -1;
		last = NULL;
	}
	return 0;
}

static const struct move *by_place_at(const struct finder *s, size_t i)
{
	return (struct move *)s->moves->out.data + ((uint32_t *)s->by_place.data)[i];
}

/* The number of those by place that are not behind @place and @ticks. */
static size_t not_behind(const struct finder *s, uint32_t place, uint64_t ticks)
{
	size_t low = 0, high = s->by_place.n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct move *move = by_place_at(s, middle);

		if (move->place < place || (move->place == place && move->start <= ticks))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Nested calls in another thread, until the return. */
static int see_lefts(struct finder *s, const struct thread_events *t, uint32_t number)
{
	for (uint32_t i = 0; i < t->n; i++) {
		const struct event *event = &t->events[i];
		size_t at = event->stack ? not_behind(s, event->stack - 1, UINT64_MAX) : 0;

		for (unsigned looks = 0; at < s->by_place.n && looks < LOOKS; looks++) {
			uint32_t place = by_place_at(s, at)->place;
			size_t behind = not_behind(s, place, event->ticks);
			struct move *move;

			if (place - event->stack >= NEAR)
				break;
			move = behind > at ? (struct move *)by_place_at(s, behind - 1) : NULL;
			if (move && move->from != number && event->ticks < move->left)
				move->left = event->ticks;
			at = not_behind(s, place, UINT64_MAX);
		}
	}
	return 0;
}

static const struct move *sorted; /* that qsort() has no room for */

static int compare_places(const void *a, const void *b)
{
	const struct move *x = sorted + *(const uint32_t *)a, *y = sorted + *(const uint32_t *)b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return (x->start > y->start) - (x->start < y->start);
}

static int find_lefts(struct finder *s)
{
	sorted = s->moves->out.data;
	if (!s->moves->out.n)
		return 0;
	for (uint32_t i = 0; i < s->moves->out.n; i++)
		if (!array_add(&s->by_place, &i, sizeof(i)))
			return trace_failed(s->f, ENOMEM);
	qsort(s->by_place.data, s->by_place.n, sizeof(uint32_t), compare_places);
	return each_thread(s, see_lefts);
}

static int compare_out(const void *a, const void *b)
{
	const struct move *x = a, *y = b;

	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return (x->ticks > y->ticks) - (x->ticks < y->ticks);
}

static int compare_in(const void *a, const void *b)
{
	const struct move *x = a, *y = b;

	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	return (x->end > y->end) - (x->end < y->end);
}

/* Each time all events are read, if there is something to be found. */
static int find(struct finder *s)
{
	struct moves *moves = s->moves;

	if (each_thread(s, see_ends))
		return -1;
	if (!s->keys.n)
		return 0;
	if (each_thread(s, see_users))
		return -1;
	if (!s->any_shared)
		return 0;
	sort_holes(s);
	if (each_thread(s, see_shared) || join(s) || find_lefts(s))
		return -1;
	for (size_t i = 0; i < moves->out.n; i++)
		if (!array_add(&moves->in, (struct move *)moves->out.data + i, sizeof(struct move)))
			return trace_failed(s->f, ENOMEM);
	if (moves->out.n) {
		qsort(moves->out.data, moves->out.n, sizeof(struct move), compare_out);
		qsort(moves->in.data, moves->in.n, sizeof(struct move), compare_in);
	}
	return 0;
}

int trace_moves_find(struct moves *moves, struct trace_file *f)
{
	struct finder s = {.f = f, .moves = moves};
	int ret = f->threads.n > 1 && !(f->session.flags & TRACE_ENTRY_ONLY) ? find(&s) : 0;

	hash_free(&s.keys);
	array_free(&s.places);
	array_free(&s.holes);
	array_free(&s.by_place);
	return ret;
}

void trace_moves_free(struct moves *moves)
{
	array_free(&moves->out);
	array_free(&moves->in);
}
