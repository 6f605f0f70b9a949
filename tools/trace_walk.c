/* SPDX-License-Identifier: MIT */
#include "trace_walk.h"

#include <errno.h>

/* Of the open calls of a function on a stack: NULL without memory. */
static uint32_t *open_calls(struct walk *w, const struct call *call)
{
	return hash_at(&w->active, (uint64_t)call->on->id << 32 | call->function);
}

/* The stacks that ran within @call end with it. */
static int leave_guests(struct walk *w, const struct call *call, enum call_end how)
{
	for (size_t i = w->stacks.n; i--;) {
		struct stack *stack = w->stacks.by_base[i];

		if (stack->host == call && walk_leave_all(w, stack, how))
			return -1;
	}
	return 0;
}

static int tell_leave(struct walk *w, struct call *call, enum call_end how)
{
	if (w->aim == FINDS_LASTING && how == END_OPEN)
		w->marks[call->entry] |= LASTS;
	if (w->aim == FINDS_SHORT && call->timed && !call->lossy && how != END_OPEN &&
	    w->now - call->start < w->min)
		w->marks[call->entry] |= IS_SHORT;
	if (w->aim != SHOWS)
		return 0;
	if (call->hidden)
		return 0;
	w->f->lossy_calls += call->lossy;
	w->f->open_calls += how == END_OPEN;
	return w->visitor->leave(w->visitor->context, call, w->now, how);
}

/* The topmost call of @stack ends now. */
int walk_leave(struct walk *w, struct stack *stack, enum call_end how)
{
	struct call *call = stack->top;
	uint32_t *open = open_calls(w, call);

	if (call->guests && leave_guests(w, call, how == END_OPEN ? how : END_UNWOUND))
		return -1;
	if (open && !call->hidden)
		--*open;
	stack->top = call->below;
	if (w->calls)
		w->calls[call->entry] = NULL;
	if (!stack->top && stack->host) {
		/* Time goes on in what it ran within. */
		stack->host->guests--;
		if (w->stacks.current == stack)
			w->stacks.current = stack->host->on;
		stack->host = NULL;
	}
	call->lossy = call->timed && call->gaps != w->gaps;
	if (tell_leave(w, call, call->timed ? how : END_UNKNOWN))
		return -1;
	call_free(&w->pool, call);
	return 0;
}

int walk_leave_all(struct walk *w, struct stack *stack, enum call_end how)
{
	while (stack->top)
		if (walk_leave(w, stack, how))
			return -1;
	return 0;
}

/* Where it is in the tree of those that are seen. */
static void place_call(struct call *call, struct call *around)
{
	struct call *parent = around && around->hidden ? around->parent : around;

	call->parent = parent;
	call->depth = parent ? parent->depth + 1 : 0;
	call->track = around ? around->track : call->on->id;
	call->charged = call->timed && !call->hidden ? call : parent ? parent->charged : NULL;
}

int walk_push(struct walk *w, struct stack *stack, uint32_t i, uint32_t end)
{
	const struct event *event = &w->t.events[i];
	struct call *call = call_new(&w->pool), *below = stack->top;
	uint32_t *open;

	if (!call)
		return trace_failed(w->f, ENOMEM);
	call->function = event->function;
	call->timed = event->kind == TRACE_ENTRY;
	call->from_tail = w->tail.valid && w->tail.place == event->stack;
	call->start = event->ticks;
	call->gaps = w->gaps;
	call->on = stack;
	call->place = event->stack;
	call->below = below;
	call->end = end;
	call->min_end = below && below->min_end < end ? below->min_end : end;
	call->entry = i;
	call->hidden = w->marks && w->marks[i] & IS_SHORT;
	call->lasts = call->min_end == TRACE_NONE && trace_may_be_inlined(w->f, event) &&
		      (w->aim == FINDS_LASTING || (w->marks && w->marks[i] & LASTS));
	place_call(call, below ? below : stack->host);
	stack->top = call;
	open = open_calls(w, call);
	if (!open)
		return trace_failed(w->f, ENOMEM);
	w->stacks.current = stack;
	if (w->calls)
		w->calls[i] = call;
	if (call->hidden)
		return 0;
	call->recursive = (*open)++ != 0 || (w->t.up && w->t.flags[i] & EVENT_RECURSIVE);
	return w->aim == SHOWS ? w->visitor->enter(w->visitor->context, call) : 0;
}

void walk_pass_time(struct walk *w, uint64_t ticks)
{
	const struct stack *runs = w->stacks.current;

	if (runs && runs->top && runs->top->charged)
		runs->top->charged->self += ticks - w->now;
	w->now = ticks;
}
