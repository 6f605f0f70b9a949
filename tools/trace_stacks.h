/* SPDX-License-Identifier: MIT */
/*
 * The stacks of a thread, by what is seen of them: ranges of places that do not overlap, each from
 * its first call (the highest place) to its topmost one (the lowest).
 */
#ifndef SHUNT_TOOLS_TRACE_STACKS_H
#define SHUNT_TOOLS_TRACE_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "array.h"
#include "trace_calls.h"
#include "trace_events.h"

struct stack {
	uint32_t base; /* place of its first call */
	uint32_t id;
	struct call *top; /* NULL: it is empty */
	struct call
		*host; /* the call of another stack within which all of this one runs, or NULL */
};

/* An entry: where it is, and the event that ends it. */
struct arrival {
	uint32_t place, end, function;
	bool timed;
	bool may_be_inlined;
};

/* Stacks that were left empty: calls near their bases are given the same numbers again. */
#define STACKS_LEFT 64u

struct stacks {
	struct stack **by_base; /* those with calls, the current one, and some that are empty */
	size_t n, max;
	size_t next_evicted;
	uint32_t next_id;
	struct stack *current;        /* NULL at first */
	uint32_t floor;               /* base of the next stack below the current one; 0: none */
	const struct stack *floor_of; /* whose that is; NULL: to be looked up */
	struct {
		uint32_t base, id;
		bool valid;
	} left[STACKS_LEFT];
	size_t next_left;
};

/* Room for calls, from which they are taken and to which they return. */
struct call_pool {
	struct call *free;  /* by below */
	struct array slabs; /* of struct call * */
};

/* All 0; NULL: no memory. */
struct call *call_new(struct call_pool *pool);
void call_free(struct call_pool *pool, struct call *call);
void call_pool_free(struct call_pool *pool);

/* Whether what is @distance words below a call can be called by it, after other stacks ran. */
bool stacks_near(uint32_t distance);

/*
 * Whether the call that begins with event @i on a new stack ends before anything else goes on:
 * between its events are none of calls that began before it or end behind it, nor of what @runs
 * calls on its own stack. Events that are looked at twice are limited, to *@looks: time stays
 * linear.
 */
bool stacks_alone(const struct thread_events *t, uint32_t i, uint32_t end, const struct call *runs,
		  uint64_t *looks);

/*
 * Whether @a is at the place of @call, and within it: functions that are inlined, with
 * -finstrument-functions.
 */
bool stacks_within(const struct call *call, const struct arrival *a);

/*
 * Whether @a, which returns, is above a call of @stack that has yet to: @stack is another one's
 * frame around that of @a.
 */
bool stacks_around(const struct stack *stack, const struct arrival *a);

/* The current stack, if @a is an ordinary call on top of it; else NULL. */
struct stack *stacks_fast(struct stacks *s, const struct arrival *a);

/* The stack in or below whose range @place is: that of the next base; NULL: there is none. */
struct stack *stacks_at(struct stacks *s, uint32_t place);

/* Whether @a, which is in or below its range, can be on top of @stack. */
bool stacks_fit(const struct stacks *s, const struct stack *stack, const struct arrival *a);

/* The current stack, if @place, above its base, can be on it, its calls having ended; else NULL. */
struct stack *stacks_grown(const struct stacks *s, uint32_t place);

/* Where there are too many: one whose calls are to be ended before stacks_add(); else NULL. */
struct stack *stacks_full(struct stacks *s);

/* A new one for @place, or one that is empty and was near it. NULL: no memory. */
struct stack *stacks_add(struct stacks *s, uint32_t place);

void stacks_free(struct stacks *s);

#endif
