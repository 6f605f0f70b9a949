/* SPDX-License-Identifier: MIT */
#include "trace_walk.h"

#include <errno.h>

int told_begin(struct walk *w)
{
	w->calls = w->t.up ? calloc(w->t.n + 1, sizeof(struct call *)) : NULL;
	return w->t.up && !w->calls ? trace_failed(w->f, ENOMEM) : 0;
}

static struct call *call_of(const struct walk *w, uint32_t entry)
{
	return entry == TRACE_NONE ? NULL : w->calls[entry];
}

/* What is above @call on its stack has ended. */
static int leave_above(struct walk *w, const struct call *call)
{
	struct stack *stack = call->on;

	while (stack->top != call)
		if (walk_leave(w, stack, END_UNWOUND))
			return -1;
	return 0;
}

/* One for a call at @place, of which this thread knows no other. */
static struct stack *new_stack(struct walk *w, uint32_t place)
{
	struct stack *stack = stacks_at(&w->stacks, place);

	if (stack && !stack->top && stack->base == place)
		return stack;
	stack = stacks_add(&w->stacks, place);
	if (!stack)
		(void)trace_failed(w->f, ENOMEM);
	return stack;
}

int told_enter(struct walk *w, uint32_t i)
{
	struct call *around = call_of(w, w->t.up[i]);
	struct stack *stack = around ? around->on : NULL;

	if (!around || w->t.flags[i] & EVENT_OWN_STACK) {
		stack = new_stack(w, w->t.events[i].stack);
		if (!stack)
			return -1;
		stack->host = around;
		if (around)
			around->guests++;
	} else if (leave_above(w, around)) {
		return -1;
	}
	return walk_push(w, stack, i, w->t.mate[i]);
}

int told_finish(struct walk *w, uint32_t i)
{
	const struct event *event = &w->t.events[i];
	struct call *call = call_of(w, w->t.mate[i]);
	const struct moved *here = w->t.moved + w->told;

	if (call) {
		if (leave_above(w, call))
			return -1;
		w->stacks.current = call->on;
		return walk_leave(w, call->on, event->kind == TRACE_TAIL ? END_TAIL : END_RETURN);
	}
	if (w->told < w->t.moved_n && here->at == i && here->what == MOVED_HERE) {
		w->told++;
		call = call_of(w, here->entry);
		w->stacks.current = call ? call->on : NULL;
		return 0;
	}
	if (w->t.mate[i] != TRACE_NONE || !w->visitor->orphan || w->aim != SHOWS)
		return 0;
	return w->visitor->orphan(w->visitor->context, event->function, event->ticks);
}

/* @moved happens; what runs here goes on. */
static int happen(struct walk *w, const struct moved *moved)
{
	static const enum call_end ends[] = {[MOVED_RETURN] = END_RETURN,
					     [MOVED_TAIL] = END_TAIL,
					     [MOVED_UNWOUND] = END_UNWOUND};
	struct call *call = call_of(w, moved->entry);
	struct stack *runs = w->stacks.current;
	int ret;

	if (moved->ticks > w->now)
		walk_pass_time(w, moved->ticks);
	if (moved->what == MOVED_LEFT) {
		w->stacks.current = NULL;
		return 0;
	}
	if (!call)
		return 0;
	call->returned_in = moved->what == MOVED_UNWOUND ? 0 : moved->tid;
	if (leave_above(w, call))
		return -1;
	ret = walk_leave(w, call->on, ends[moved->what]);
	w->stacks.current = runs;
	return ret;
}

int told_events(struct walk *w, uint32_t i)
{
	for (; w->told < w->t.moved_n && w->t.moved[w->told].at <= i; w->told++) {
		const struct moved *moved = &w->t.moved[w->told];

		if (moved->what == MOVED_HERE && moved->at == i)
			return 0; /* event @i itself */
		if (moved->what != MOVED_HERE && happen(w, moved))
			return -1;
	}
	return 0;
}
