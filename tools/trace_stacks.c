/* SPDX-License-Identifier: MIT */
#include "trace_stacks.h"

#define WORDS(bytes) ((bytes) / 8u) /* a place counts words */

/*
 * How far a call may be below its caller: so far on a stack that goes on after another one ran (the
 * smallest stacks that are in use are of 16 KiB); so far on the one that runs.
 */
#define NEAR WORDS(8u << 10)
#define FAR  WORDS(1u << 20)
/* How far the first calls of one stack are from each other. */
#define SPREAD WORDS(64u << 10)

#define MAX_STACKS 8192u
/* How many open calls are looked at, so that time stays linear. */
#define LOOKS 64u

#define SLAB 1024u

struct call *call_new(struct call_pool *pool)
{
	struct call *call = pool->free, *slab;

	if (!call) {
		slab = malloc(SLAB * sizeof(*slab));
		if (!slab || !array_add(&pool->slabs, &slab, sizeof(struct call *))) {
			free(slab);
			return NULL;
		}
		for (uint32_t i = 0; i < SLAB; i++)
			slab[i].below = i ? &slab[i - 1] : NULL;
		call = &slab[SLAB - 1];
	}
	pool->free = call->below;
	*call = (struct call){0};
	return call;
}

void call_free(struct call_pool *pool, struct call *call)
{
	call->below = pool->free;
	pool->free = call;
}

void call_pool_free(struct call_pool *pool)
{
	for (size_t i = 0; i < pool->slabs.n; i++)
		free(((struct call **)pool->slabs.data)[i]);
	array_free(&pool->slabs);
	pool->free = NULL;
}

/* The first one whose base is at least @place. */
static size_t find(const struct stacks *s, uint32_t place)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->by_base[middle]->base < place)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_left(const struct stacks *s, const struct stack *stack)
{
	return !stack->top && stack != s->current;
}

static void forget(struct stacks *s, struct stack *stack)
{
	size_t i = s->next_left++ % STACKS_LEFT;

	s->left[i].base = stack->base;
	s->left[i].id = stack->id;
	s->left[i].valid = true;
	s->floor_of = NULL;
	free(stack);
}

struct stack *stacks_at(struct stacks *s, uint32_t place)
{
	size_t i = find(s, place), left = 0;
	struct stack *stack;

	for (; i + left < s->n && is_left(s, s->by_base[i + left]); left++)
		forget(s, s->by_base[i + left]);
	stack = i + left < s->n ? s->by_base[i + left] : NULL;
	if (left) {
		s->n -= left;
		memmove(s->by_base + i, s->by_base + i + left, (s->n - i) * sizeof(*s->by_base));
	}
	return stack;
}

bool stacks_near(uint32_t distance)
{
	return distance < NEAR;
}

bool stacks_alone(const struct thread_events *t, uint32_t i, uint32_t end, const struct call *runs,
		  uint64_t *looks)
{
	for (uint32_t k = i + 1; k < end && *looks; k++, --*looks) {
		const struct event *event = &t->events[k];
		uint32_t mate = t->mate[k];

		if (mate != TRACE_NONE && (mate < i || mate > end))
			return false;
		if (event->kind == TRACE_ENTRY && event->stack < runs->place &&
		    stacks_near(runs->place - event->stack))
			return false;
	}
	return true;
}

bool stacks_fit(const struct stacks *s, const struct stack *stack, const struct arrival *a)
{
	const struct call *top = stack->top;
	uint32_t distance = (top ? top->place : stack->base) - a->place;

	if (!top)
		return distance < SPREAD;
	/* It would end behind its caller. */
	if (a->end != TRACE_NONE && top->min_end < a->end)
		return false;
	if (stack != s->current)
		return stacks_near(distance);
	/* The caller returns, this does not: a coroutine that is left, rather than a big frame. */
	if (a->timed && a->end == TRACE_NONE && top->end != TRACE_NONE && distance >= NEAR)
		return false;
	return distance < FAR;
}

/*
 * Whether a call of this function that does not return is open at this place, from @call on: it has
 * ended, for a function is not inlined in itself.
 */
static bool is_again(const struct call *call, const struct arrival *a)
{
	for (unsigned looks = 0; call && call->place == a->place && looks < LOOKS; looks++) {
		if (call->end == TRACE_NONE && call->function == a->function)
			return true;
		call = call->below;
	}
	return false;
}

bool stacks_within(const struct call *call, const struct arrival *a)
{
	if (call->place != a->place || !a->timed)
		return false;
	if (call->end != TRACE_NONE)
		return a->end == TRACE_NONE || a->end < call->end;
	return call->lasts && a->may_be_inlined && !is_again(call, a);
}

bool stacks_around(const struct stack *stack, const struct arrival *a)
{
	const struct call *call = stack->top;

	for (unsigned looks = 0; call && call->place < a->place && looks < LOOKS; looks++) {
		if (call->end != TRACE_NONE)
			return a->end < call->end;
		call = call->below;
	}
	return false;
}

struct stack *stacks_fast(struct stacks *s, const struct arrival *a)
{
	struct stack *stack = s->current;

	if (!stack || a->place > stack->base ||
	    (stack->top && a->place >= stack->top->place && !stacks_within(stack->top, a)))
		return NULL;
	if (s->floor_of != stack) {
		size_t i = find(s, stack->base);

		s->floor = i ? s->by_base[i - 1]->base : 0;
		s->floor_of = stack;
	}
	return a->place > s->floor && stacks_fit(s, stack, a) ? stack : NULL;
}

struct stack *stacks_grown(const struct stacks *s, uint32_t place)
{
	struct stack *stack = s->current;
	size_t i = find(s, place);

	if (!stack || !i || s->by_base[i - 1] != stack || place - stack->base >= SPREAD)
		return NULL;
	/* A call of it that will return has not ended. */
	return stack->top && stack->top->min_end != TRACE_NONE ? NULL : stack;
}

struct stack *stacks_full(struct stacks *s)
{
	size_t i = s->next_evicted++;

	if (s->n < MAX_STACKS)
		return NULL;
	i %= s->n;
	return s->by_base[i] == s->current ? s->by_base[(i + 1) % s->n] : s->by_base[i];
}

/* Remove those that are empty. */
static void sweep(struct stacks *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (is_left(s, s->by_base[i]))
			forget(s, s->by_base[i]);
		else
			s->by_base[n++] = s->by_base[i];
	s->n = n;
}

/* The number of a stack that was left near @place, or a new one. */
static uint32_t number(struct stacks *s, uint32_t place)
{
	for (size_t i = 0; i < STACKS_LEFT; i++) {
		uint32_t base = s->left[i].base;

		if (!s->left[i].valid || (base > place ? base - place : place - base) >= SPREAD)
			continue;
		s->left[i].valid = false;
		return s->left[i].id;
	}
	return s->next_id++;
}

struct stack *stacks_add(struct stacks *s, uint32_t place)
{
	struct stack *stack = calloc(1, sizeof(*stack));
	size_t i;

	if (s->n >= MAX_STACKS)
		sweep(s);
	if (stack && s->n == s->max) {
		size_t max = s->max ? 2 * s->max : 16;
		struct stack **by_base = reallocarray(s->by_base, max, sizeof(struct stack *));

		if (by_base) {
			s->by_base = by_base;
			s->max = max;
		}
	}
	if (!stack || s->n == s->max) {
		free(stack);
		return NULL;
	}
	i = find(s, place);
	memmove(s->by_base + i + 1, s->by_base + i, (s->n++ - i) * sizeof(*s->by_base));
	s->by_base[i] = stack;
	s->floor_of = NULL;
	stack->base = place;
	stack->id = number(s, place);
	return stack;
}

void stacks_free(struct stacks *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->by_base[i]);
	free(s->by_base);
	*s = (struct stacks){0};
}
