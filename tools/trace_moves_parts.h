/* SPDX-License-Identifier: MIT */
/* Between the files of trace_moves.h. */
#ifndef SHUNT_TOOLS_TRACE_MOVES_PARTS_H
#define SHUNT_TOOLS_TRACE_MOVES_PARTS_H

#include "hash.h"
#include "trace_moves.h"

struct shared_stack;

/* A thread that shares stacks with others. */
struct part {
	uint32_t number;        /* in the file */
	struct thread_events t; /* mate: within this thread alone */
	uint32_t *up;
	uint8_t *flags;
	uint32_t at;                  /* the event that is next */
	uint64_t dead;                /* ticks: it has ended by then; UINT64_MAX: it has not */
	struct array moved;           /* of struct moved */
	struct shared_stack *current; /* that it was seen on last, and no other thread since */
};

struct ref {
	uint32_t part, event; /* part TRACE_NONE: nothing */
};

/* A call that returns in another thread. */
struct cross {
	struct ref entry, end;
};

struct finder {
	struct trace_file *f;
	struct part *parts;
	uint32_t n;
	uint32_t *heap; /* of parts, the one first whose next event is */
	uint32_t heap_n;
	uint64_t skew;        /* ticks: so far two CPUs' clocks may be apart */
	struct array crosses; /* of struct cross */
	struct hash by_entry; /* the number of its cross + 1 */
	struct hash by_end;
};

static inline const struct event *event_at(const struct finder *s, struct ref ref)
{
	return &s->parts[ref.part].t.events[ref.event];
}

static inline uint64_t ref_key(struct ref ref)
{
	return (uint64_t)ref.part << 32 | ref.event;
}

static inline bool is_end(const struct event *event)
{
	return event->kind == TRACE_RETURN || event->kind == TRACE_TAIL;
}

/* trace_moves_merge.c: events of all parts in order of time: next(), handled, step(). */
void moves_rewind(struct finder *s);
bool moves_next(const struct finder *s, struct ref *ref);
void moves_step(struct finder *s);

/* trace_moves_match.c: mates and crosses. 0, or -ENOMEM. */
int moves_match(struct finder *s);
/* trace_moves_stacks.c: what runs within what, and what becomes of it. 0, or -ENOMEM. */
int moves_find_stacks(struct finder *s);

#endif
