/* SPDX-License-Identifier: MIT */
#include "trace_calls.h"

#include <errno.h>
#include <inttypes.h>

#include "progress.h"
#include "shunt.h"
#include "trace_walk.h"

/* What is above @place on its stack has ended, whether that was recorded or not. */
static int leave_above(struct walk *w, struct stack *stack, uint32_t place)
{
	while (stack && stack->top && stack->top->place < place)
		if (walk_leave(w, stack, END_UNWOUND))
			return -1;
	return 0;
}

/* ----------------------------------------------------------------------------- enter */

/*
 * A stack of which nothing was known, for the call that begins with event @i. If that runs alone
 * within the call that runs now, it is part of this; else it is the first of a coroutine.
 */
static struct stack *new_stack(struct walk *w, uint32_t i, uint32_t place, uint32_t end)
{
	struct stack *from = w->stacks.current, *evicted, *stack;
	struct call *runs;

	evicted = stacks_full(&w->stacks);
	if (evicted && walk_leave_all(w, evicted, END_UNWOUND))
		return NULL;
	runs = from && from == w->stacks.current ? from->top : NULL;
	stack = stacks_add(&w->stacks, place);
	if (!stack) {
		(void)trace_failed(w->f, ENOMEM);
		return NULL;
	}
	if (runs && end != TRACE_NONE && end < runs->min_end &&
	    stacks_alone(&w->t, i, end, runs, &w->looks)) {
		stack->host = runs;
		runs->guests++;
	}
	return stack;
}

/*
 * Whether the call that begins with event @i runs on a stack in a frame of @stack (a signal
 * handler's, an array that is local to main()), within the call that runs now.
 */
static bool is_in_frame(struct walk *w, const struct stack *stack, uint32_t i,
			const struct arrival *a)
{
	return stack && stack == w->stacks.current && stacks_around(stack, a) &&
	       a->end < stack->top->min_end &&
	       stacks_alone(&w->t, i, a->end, stack->top, &w->looks);
}

/* The stack for a call that is in or below the range of none; NULL: complained. */
static struct stack *enter_elsewhere(struct walk *w, uint32_t i, const struct arrival *a)
{
	struct stack *stack = stacks_grown(&w->stacks, a->place);

	if (!stack)
		return new_stack(w, i, a->place, a->end);
	if (walk_leave_all(w, stack, END_UNWOUND))
		return NULL;
	stack->base = a->place;
	return stack;
}

/* Calls at the place of @a that have ended, for it is not within them. */
static int leave_beside(struct walk *w, struct stack *stack, const struct arrival *a)
{
	while (stack && stack->top && stack->top->place == a->place &&
	       !stacks_within(stack->top, a))
		if (walk_leave(w, stack, END_UNWOUND))
			return -1;
	return 0;
}

static int enter(struct walk *w, uint32_t i)
{
	const struct event *event = &w->t.events[i];
	struct arrival a = {
		.place = event->stack,
		.end = w->t.mate[i],
		.function = event->function,
		.timed = event->kind == TRACE_ENTRY,
		.may_be_inlined = trace_may_be_inlined(w->f, event),
	};
	struct stack *stack = stacks_fast(&w->stacks, &a);

	if (!stack) {
		stack = stacks_at(&w->stacks, a.place);
		if (is_in_frame(w, stack, i, &a)) {
			stack = new_stack(w, i, a.place, a.end);
			return stack ? walk_push(w, stack, i, a.end) : -1;
		}
		/* Calls at or above this place of the same stack have ended. */
		if (leave_above(w, stack, a.place) || leave_beside(w, stack, &a))
			return -1;
		if (!stack || !stacks_fit(&w->stacks, stack, &a))
			stack = enter_elsewhere(w, i, &a);
		if (!stack)
			return -1;
	}
	return walk_push(w, stack, i, a.end);
}

/* ---------------------------------------------------------------------------- return */

/* What is within the call that event @i ends, at the same place of @stack. */
static int leave_within(struct walk *w, struct stack *stack, uint32_t i)
{
	const struct call *call = stack ? stack->top : NULL;

	while (call && call->place == w->t.events[i].stack && call->end != i)
		call = call->below;
	if (!call || call->end != i)
		return 0;
	while (stack->top != call)
		if (walk_leave(w, stack, END_UNWOUND))
			return -1;
	return 0;
}

static int finish(struct walk *w, uint32_t i)
{
	const struct event *event = &w->t.events[i];
	enum call_end how = event->kind == TRACE_TAIL ? END_TAIL : END_RETURN;
	struct stack *stack = w->stacks.current;

	if (!stack || !stack->top || stack->top->end != i) {
		stack = stacks_at(&w->stacks, event->stack);
		if (leave_above(w, stack, event->stack) || leave_within(w, stack, i))
			return -1;
	}
	if (stack && stack->top && stack->top->end == i) {
		w->stacks.current = stack;
		return walk_leave(w, stack, how);
	}
	/* What is at this place is not what returns. */
	if (leave_above(w, stack, event->stack + 1))
		return -1;
	return w->visitor->orphan && w->aim == SHOWS
		       ? w->visitor->orphan(w->visitor->context, event->function, event->ticks)
		       : 0;
}

static int walk_event(struct walk *w, uint32_t i)
{
	const struct event *event = &w->t.events[i];
	int ret;

	walk_pass_time(w, event->ticks);
	if (event->kind == TRACE_ENTRY || event->kind == TRACE_CALL) {
		ret = w->t.up ? told_enter(w, i) : enter(w, i);
		w->tail.valid = false;
		return ret;
	}
	ret = w->t.up ? told_finish(w, i) : finish(w, i);
	w->tail.valid = event->kind == TRACE_TAIL;
	w->tail.place = event->stack;
	return ret;
}

static int pass_gap(struct walk *w, uint64_t lost, uint64_t ticks)
{
	w->gaps++;
	return w->visitor->lost && w->aim == SHOWS
		       ? w->visitor->lost(w->visitor->context, lost, ticks)
		       : 0;
}

/* What is open now stays so until @end. */
static int leave_open(struct walk *w, uint64_t end)
{
	if (end > w->now)
		walk_pass_time(w, end);
	/* Those that run within others first. */
	for (size_t i = w->stacks.n; i--;)
		if (w->stacks.by_base[i]->host && walk_leave_all(w, w->stacks.by_base[i], END_OPEN))
			return -1;
	for (size_t i = w->stacks.n; i--;)
		if (walk_leave_all(w, w->stacks.by_base[i], END_OPEN))
			return -1;
	return 0;
}

static int walk_events(struct walk *w, const struct file_thread *thread, uint64_t done)
{
	const struct gap *gaps = w->t.gaps.data;
	size_t gap = 0;

	for (uint32_t i = 0; i < w->t.n; i++) {
		for (; gap < w->t.gaps.n && gaps[gap].at == i; gap++)
			if (pass_gap(w, gaps[gap].lost, w->t.events[i].ticks))
				return -1;
		if (told_events(w, i) || walk_event(w, i))
			return -1;
		if (i % 4096 == 0)
			progress(done + i);
	}
	for (; gap < w->t.gaps.n; gap++)
		if (pass_gap(w, gaps[gap].lost, w->now))
			return -1;
	if (told_events(w, (uint32_t)w->t.n))
		return -1;
	if (w->f->has_failed && !thread->has_ended)
		return leave_open(w, w->now); /* what it did then may be lost */
	return leave_open(w, thread->has_ended ? thread->alive : w->end);
}

static void begin_events(struct walk *w, const struct file_thread *thread)
{
	w->gaps = 0;
	w->looks = 8 * (uint64_t)w->t.n;
	w->now = w->t.n ? w->t.events[0].ticks : thread->raw.started;
	w->told = 0;
}

static void end_events(struct walk *w)
{
	stacks_free(&w->stacks);
	hash_free(&w->active);
	call_pool_free(&w->pool);
	w->tail.valid = false;
}

/* All calls once more, for what is marked is known when they end. */
static int mark(struct walk *w, const struct file_thread *thread, enum walk_aim aim)
{
	int ret;

	if (!w->marks)
		w->marks = calloc(w->t.n + 1, sizeof(*w->marks));
	if (!w->marks)
		return trace_failed(w->f, ENOMEM);
	w->aim = aim;
	begin_events(w, thread);
	ret = walk_events(w, thread, 0);
	end_events(w);
	w->aim = SHOWS;
	return ret;
}

static int walk_thread(struct walk *w, const struct file_thread *thread, uint64_t done)
{
	int ret = trace_events_load(&w->t, w->f, thread);

	if (ret)
		return ret;
	trace_moves_apply(w->moves, &w->t, w->f, (uint32_t)(thread - trace_thread_at(w->f, 0)));
	ret = told_begin(w);
	if (!ret && !w->t.up && trace_events_may_last(&w->t, w->f))
		ret = mark(w, thread, FINDS_LASTING);
	if (!ret && w->min)
		ret = mark(w, thread, FINDS_SHORT);
	begin_events(w, thread);
	if (!ret && w->visitor->thread)
		ret = w->visitor->thread(w->visitor->context, thread);
	if (!ret)
		ret = walk_events(w, thread, done);
	if (!ret && w->visitor->thread_end)
		ret = w->visitor->thread_end(w->visitor->context, w->now);
	end_events(w);
	trace_events_free(&w->t);
	free(w->marks);
	free(w->calls);
	w->marks = NULL;
	w->calls = NULL;
	return ret;
}

int trace_walk(struct trace_file *f, uint32_t tid, const struct trace_visitor *visitor)
{
	struct moves moves = {0};
	struct walk w = {.f = f, .visitor = visitor, .moves = &moves};
	uint64_t done = 0;
	bool any = tid == TRACE_ALL_THREADS;
	int ret = 0;

	f->lossy_calls = f->open_calls = 0;
	w.min = trace_ticks(f, f->session.min_ns);
	w.min -= w.min >> 10; /* the recorder had read the clock for a shorter time */
	if (trace_ticks(f, f->min_ns) > w.min)
		w.min = trace_ticks(f, f->min_ns);
	if (trace_events_end(f, &w.end))
		return -1;
	ret = trace_moves_find(&moves, f);
	progress_begin("events", f->events);
	for (size_t i = 0; i < f->threads.n && !ret; i++) {
		const struct file_thread *thread = trace_thread_at(f, i);

		if (tid != TRACE_ALL_THREADS && thread->raw.tid != tid)
			continue;
		any = true;
		ret = walk_thread(&w, thread, done);
		done += thread->events;
	}
	progress_end();
	trace_moves_free(&moves);
	if (!any && !ret) {
		tool_complain("%s: no thread %" PRIu32, f->path, tid);
		return -1;
	}
	return ret;
}
