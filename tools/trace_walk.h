/* SPDX-License-Identifier: MIT */
/* The walk over one thread's events: what trace_calls.c and trace_told.c have in common. */
#ifndef SHUNT_TOOLS_TRACE_WALK_H
#define SHUNT_TOOLS_TRACE_WALK_H

#include "trace_calls.h"
#include "trace_events.h"
#include "trace_moves.h"
#include "trace_stacks.h"

enum walk_aim { SHOWS, FINDS_LASTING, FINDS_SHORT };

struct walk {
	struct trace_file *f;
	const struct trace_visitor *visitor;
	struct thread_events t;
	struct stacks stacks;
	struct hash active; /* by stack and function: open calls */
	struct call_pool pool;
	const struct moves *moves;
	struct call **calls; /* by entry: those that are open, of a thread with t.up; or NULL */
	size_t told;         /* of t.moved: how many have been seen */
	struct call_place {
		uint32_t place;
		bool valid;
	} tail;            /* where a tail call has just ended a function */
	uint8_t *marks;    /* by event: what is known of its call; or NULL */
	enum walk_aim aim; /* visitors see nothing but with SHOWS */
	uint64_t min;      /* ticks */
	uint64_t now, end; /* ticks; of the session */
	uint64_t looks;    /* that stacks_alone() has left */
	uint32_t gaps;     /* of lost events, so far, in this thread */
};

/* Marks: shorter than min_ns; open at the end. */
enum { IS_SHORT = 1, LASTS = 2 };

/* The topmost call of @stack ends now. 0, or -1: a visitor's, or complained; so all of these. */
int walk_leave(struct walk *w, struct stack *stack, enum call_end how);
int walk_leave_all(struct walk *w, struct stack *stack, enum call_end how);
/* The call of event @i, which event @end ends, begins on @stack. */
int walk_push(struct walk *w, struct stack *stack, uint32_t i, uint32_t end);
/* What runs has run until @ticks. */
void walk_pass_time(struct walk *w, uint64_t ticks);

/*
 * trace_told.c: of a thread whose stacks other threads run, too. What calls run within is known
 * (trace_moves.h). told_events() goes before event @i: what became of its calls elsewhere.
 */
int told_begin(struct walk *w);
int told_enter(struct walk *w, uint32_t i);
int told_finish(struct walk *w, uint32_t i);
int told_events(struct walk *w, uint32_t i);

#endif
