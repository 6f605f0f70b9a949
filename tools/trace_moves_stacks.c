/* SPDX-License-Identifier: MIT */
/*
 * The stacks of threads that share some, in order of time over all of them. What is open is kept
 * as ranges of places that do not overlap, each from the first call of a stack to its topmost.
 *
 * Where a stack ends is not recorded. It is known between two calls that cross: neither has ended
 * when the other begins and when it ends. Such a call is the first of its stack; so are others at
 * its place; and all is done again with what was learned. Where nothing crosses a call that runs
 * within another one is taken to be called by it if it is near, or its thread was on that stack.
 */
#include <errno.h>

#include "trace_moves_ranges.h"

#define WORDS(bytes) ((bytes) / 8u)
/* See trace_stacks.c. */
#define NEAR   WORDS(8u << 10)
#define FAR    WORDS(1u << 20)
#define LOOKS  64u
#define ROUNDS 4u  /* by votes */
#define MOST   16u /* and what is learned of single calls */

/* What an entry is, before it is known what it runs within. */
struct entering {
	struct ref ref;
	const struct event *event;
	uint64_t end;
	uint32_t end_part;
};

/* Whether it will end by a return that is still to come, and not just there, by another clock. */
static bool is_to_end(const struct solver *v, const struct node *node, uint32_t part)
{
	uint64_t skew = node->end_part == part ? 0 : v->s->skew;

	return node->end != NEVER && node->end > v->now + skew;
}

/* Whether the same function stands at this place, from @node on, without a return: it has ended. */
static bool is_again(const struct node *node, const struct event *event)
{
	for (unsigned looks = 0; node && node->place == event->stack && looks < LOOKS; looks++) {
		if (node->end == NEVER && node->function == event->function)
			return true;
		node = node->older;
	}
	return false;
}

/* Functions that are inlined, at the same place as what they are inlined in. */
static bool is_within(const struct solver *v, const struct node *node, const struct entering *x)
{
	if (node->place != x->event->stack || x->event->kind != TRACE_ENTRY)
		return false;
	if (node->end != NEVER)
		return node->end > v->now && (x->end == NEVER || x->end <= node->end);
	return node->lasts && trace_may_be_inlined(v->s->f, x->event) && !is_again(node, x->event);
}

/* Whether it begins behind a return, of it or of what is around it: when that is. */
static uint64_t end_around(const struct node *node)
{
	for (unsigned looks = 0; node && looks < LOOKS; looks++, node = node->older)
		if (node->end != NEVER)
			return node->end;
	return NEVER;
}

/*
 * Whether its thread does nothing else until @x has ended: of calls that began before it or end
 * behind it, nor of what @runs calls on its own stack.
 */
static bool is_alone(struct solver *v, const struct entering *x, const struct node *runs)
{
	const struct part *p = part_of(v, x->ref.part);
	uint32_t end = p->t.mate[x->ref.event];

	if (end == TRACE_NONE || end_around(runs) < x->end)
		return false;
	for (uint32_t i = x->ref.event + 1; i < end; i++) {
		const struct event *event = &p->t.events[i];
		uint32_t mate = p->t.mate[i];

		if (!v->looks || (mate != TRACE_NONE && (mate < x->ref.event || mate > end)))
			return false;
		v->looks--;
		if (mate == TRACE_NONE &&
		    (is_end(event) ||
		     hash_get(&v->s->by_entry, ref_key((struct ref){x->ref.part, i}))))
			return false;
		if (event->kind == TRACE_ENTRY && event->stack < runs->place &&
		    runs->place - event->stack < NEAR)
			return false;
	}
	return true;
}

/* Whether @x is called by the topmost of @stack, as far as is known. */
static bool is_called_by(struct solver *v, const struct shared_stack *stack,
			 const struct entering *x)
{
	const struct node *caller = stack->top;
	uint32_t distance = caller->place - x->event->stack;
	uint64_t frame = (uint64_t)caller->function << 32 | distance, end = end_around(caller);
	bool ran = part_of(v, x->ref.part)->current == stack && stack->part == x->ref.part;
	uint32_t *seen;

	if (x->end != NEVER && end != NEVER &&
	    end + (x->end_part == caller->end_part ? 0 : v->s->skew) < x->end) {
		ranges_is_first(v, x->event);
		return false;
	}
	if (ran && distance < NEAR && x->end != NEVER)
		ranges_is_called(v, x->event);
	if (*flags_of(v, x->ref) & EVENT_BASE || distance >= FAR ||
	    ranges_are_first(v, &v->places, x->event->stack))
		return false;
	if (distance < NEAR)
		return true;
	if (!ran)
		return hash_get(&v->frames, frame);
	if (ranges_are_first(v, &v->functions, x->event->function) ||
	    (x->end == NEVER && caller->end != NEVER && x->event->kind == TRACE_ENTRY))
		return false;
	seen = hash_at(&v->frames, frame);
	v->is_failed |= !seen;
	if (seen)
		*seen = 1;
	return true;
}

/*
 * The stack that @x may be on top of: what is at its place or below it has ended, or is another
 * stack. *@is_in_frame: it is in a frame of the stack that runs, as an array is.
 */
static struct shared_stack *clear(struct solver *v, const struct entering *x, bool *is_in_frame)
{
	uint32_t place = x->event->stack;
	struct shared_stack *stack;
	struct node *node;

	while ((stack = ranges_at(v, place)) && !v->is_failed) {
		const struct part *p = part_of(v, x->ref.part);

		node = stack->top;
		if (node->place > place && node->end == NEVER &&
		    part_of(v, node->entry.part)->dead < v->now &&
		    stack->part == node->entry.part) {
			ranges_end_top(v, stack);
			continue;
		}
		if (node->place > place || is_within(v, node, x))
			return stack;
		*is_in_frame = node->place < place && is_to_end(v, node, x->ref.part) &&
			       p->current == stack && is_alone(v, x, node);
		if (*is_in_frame)
			return stack;
		while (node->older && node->older->place <= place && !is_within(v, node->older, x))
			node = node->older;
		if (node->older &&
		    (is_to_end(v, node, x->ref.part) || is_to_end(v, stack->top, x->ref.part)))
			ranges_split(v, stack, node);
		else
			ranges_end_top(v, stack);
	}
	return NULL;
}

/* The stack that runs, if @x is above its first call, and none of its calls is to return. */
static struct shared_stack *grown(struct solver *v, const struct entering *x)
{
	size_t i = ranges_find(v, x->event->stack);
	struct shared_stack *stack = i ? v->by_base[i - 1] : NULL;

	if (!stack || stack != part_of(v, x->ref.part)->current ||
	    x->event->stack - stack->base >= NEAR || end_around(stack->top) != NEVER ||
	    ranges_are_first(v, &v->places, x->event->stack))
		return NULL;
	return stack;
}

static void push(struct solver *v, const struct entering *x, struct shared_stack *stack)
{
	struct part *p = part_of(v, x->ref.part);
	uint32_t i = x->ref.event;
	uint8_t *flags = &p->flags[i];
	struct node *node = ranges_node(v), *caller = stack->top ? stack->top : stack->host;
	uint32_t *open;

	if (!node) {
		v->is_failed = true;
		return;
	}
	*node = (struct node){.older = stack->top,
			      .on = stack,
			      .entry = x->ref,
			      .place = x->event->stack,
			      .function = x->event->function,
			      .end = x->end,
			      .end_part = x->end_part,
			      .lasts = x->end == NEVER && trace_may_be_inlined(v->s->f, x->event) &&
				       (v->is_first || *flags & EVENT_LASTS)};
	stack->top = node;
	*flags &= (uint8_t) ~(EVENT_OWN_STACK | EVENT_RECURSIVE);
	if (caller == stack->host || caller->entry.part != x->ref.part)
		*flags |= EVENT_OWN_STACK;
	p->up[i] = caller && caller->entry.part == x->ref.part ? caller->entry.event : TRACE_NONE;
	open = ranges_recursion(v, node);
	if ((*open)++)
		*flags |= EVENT_RECURSIVE;
	ranges_run(v, x->ref.part, stack);
}

static void enter(struct solver *v, const struct entering *x)
{
	bool is_in_frame = false;
	struct shared_stack *stack = clear(v, x, &is_in_frame), *above = stack, *host, *old;

	if (v->is_failed)
		return;
	if (stack && !is_in_frame && (is_within(v, stack->top, x) || is_called_by(v, stack, x))) {
		push(v, x, stack);
		return;
	}
	old = grown(v, x);
	if (old && !is_in_frame)
		ranges_end_all(v, old);
	host = part_of(v, x->ref.part)->current;
	stack = ranges_add(v, x->event->stack, x->ref.part);
	if (!stack)
		return;
	if (host && host->part == x->ref.part && !(*flags_of(v, x->ref) & EVENT_APART) &&
	    !ranges_are_first(v, &v->places, x->event->stack) && is_alone(v, x, host->top))
		ranges_put_within(stack, host->top);
	else if (host && !above && x->end != NEVER)
		ranges_is_first(v, x->event);
	push(v, x, stack);
}

/* ----------------------------------------------------------------------------- events */

static void take_entry(struct solver *v, struct ref ref)
{
	const struct finder *s = v->s;
	struct part *p = part_of(v, ref.part);
	uint32_t mate = p->t.mate[ref.event], cross = hash_get(&s->by_entry, ref_key(ref));
	struct entering x = {ref, event_at(s, ref), NEVER, ref.part};

	if (mate != TRACE_NONE) {
		x.end = p->t.events[mate].ticks;
	} else if (cross) {
		struct ref end = ((struct cross *)s->crosses.data)[cross - 1].end;
		const struct part *other = part_of(v, end.part);

		x.end = event_at(s, end)->ticks;
		x.end_part = end.part;
		if (other->at > end.event) { /* by another clock */
			p->up[ref.event] = TRACE_NONE;
			p->flags[ref.event] |= EVENT_OWN_STACK;
			moves_tell(v, ref.part,
				   (struct moved){
					   .what = MOVED_RETURN,
					   .at = ref.event + 1,
					   .entry = ref.event,
					   .tid = trace_thread_at(s->f, other->number)->raw.tid});
			return;
		}
	}
	enter(v, &x);
}

/* The call of @entry returns in @part: what is above it has ended, or is on another stack. */
static void leave(struct solver *v, struct ref entry, uint32_t place, uint32_t part)
{
	struct shared_stack *stack = ranges_at(v, place);
	struct node *node = stack ? stack->top : NULL, *above = NULL;
	bool is_to_split = false;

	for (; node && ref_key(node->entry) != ref_key(entry); node = node->older) {
		is_to_split |= is_to_end(v, node, part);
		above = node;
	}
	if (!node)
		return;
	if (is_to_split)
		ranges_split(v, stack, above);
	if (v->is_failed)
		return;
	ranges_run(v, part, stack);
	while (stack->top != node)
		ranges_end_top(v, stack);
	ranges_pop(v, stack);
}

/* What is open at @place or below it on its stack, and does not return, has ended. */
static void leave_unknown(struct solver *v, uint32_t place, uint32_t part)
{
	struct shared_stack *stack = ranges_at(v, place);
	struct node *node = stack ? stack->top : NULL;

	while (node && node->place <= place && node->end == NEVER) {
		struct node *older = node->older;

		ranges_run(v, part, stack);
		ranges_end_top(v, stack);
		node = older;
	}
}

static void take_end(struct solver *v, struct ref ref)
{
	const struct finder *s = v->s;
	struct part *p = part_of(v, ref.part);
	uint32_t mate = p->t.mate[ref.event], cross = hash_get(&s->by_end, ref_key(ref));
	struct moved here = {.what = MOVED_HERE, .entry = TRACE_NONE, .at = ref.event};
	struct ref entry = {ref.part, mate};

	p->up[ref.event] = TRACE_NONE;
	if (mate != TRACE_NONE) {
		leave(v, entry, p->t.events[mate].stack, ref.part);
		return;
	}
	if (!cross) {
		leave_unknown(v, event_at(s, ref)->stack, ref.part);
		return;
	}
	entry = ((struct cross *)s->crosses.data)[cross - 1].entry;
	leave(v, entry, event_at(s, entry)->stack, ref.part);
	if (part_of(v, entry.part)->at > entry.event)
		moves_tell(v, entry.part,
			   (struct moved){.what = event_at(s, ref)->kind == TRACE_TAIL
							  ? MOVED_TAIL
							  : MOVED_RETURN,
					  .entry = entry.event,
					  .tid = trace_thread_at(s->f, p->number)->raw.tid});
	if (p->current && p->current->top->entry.part == ref.part)
		here.entry = p->current->top->entry.event;
	moves_tell(v, ref.part, here);
}

static void begin(struct solver *v)
{
	v->now = v->next_id = 0;
	v->looks = 0;
	v->has_learned = false;
	hash_free(&v->frames);
	for (uint32_t i = 0; i < v->s->n; i++) {
		v->s->parts[i].moved.n = 0;
		v->s->parts[i].current = NULL;
		v->looks += 8 * (uint64_t)v->s->parts[i].t.n;
	}
}

int moves_find_stacks(struct finder *s)
{
	struct solver v = {.s = s, .is_first = true};
	struct ref ref;

	for (unsigned round = 0; round < MOST; round++) {
		begin(&v);
		for (moves_rewind(s); moves_next(s, &ref) && !v.is_failed; moves_step(s)) {
			v.now = event_at(s, ref)->ticks;
			if (is_end(event_at(s, ref)))
				take_end(&v, ref);
			else
				take_entry(&v, ref);
		}
		ranges_clear(&v);
		if (v.is_failed || (!ranges_have_learned(&v, round < ROUNDS - 1) && !v.is_first))
			break;
		v.is_first = false;
	}
	for (size_t i = 0; i < v.slabs.n; i++)
		free(((struct node **)v.slabs.data)[i]);
	array_free(&v.slabs);
	free(v.by_base);
	hash_free(&v.places);
	hash_free(&v.functions);
	array_free(&v.votes);
	hash_free(&v.frames);
	return v.is_failed ? -ENOMEM : 0;
}
