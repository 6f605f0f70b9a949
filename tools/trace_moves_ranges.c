/* SPDX-License-Identifier: MIT */
#include "trace_moves_ranges.h"

#define SLAB 1024u

struct node *ranges_node(struct solver *v)
{
	struct node *node = v->free, *slab;

	if (!node) {
		slab = malloc(SLAB * sizeof(*slab));
		if (!slab || !array_add(&v->slabs, &slab, sizeof(struct node *))) {
			free(slab);
			return NULL;
		}
		for (uint32_t i = 0; i < SLAB; i++)
			slab[i].older = i ? &slab[i - 1] : NULL;
		node = &slab[SLAB - 1];
	}
	v->free = node->older;
	return node;
}

void moves_tell(struct solver *v, uint32_t part, struct moved moved)
{
	struct part *p = part_of(v, part);

	moved.ticks = v->now;
	if (!moved.at)
		moved.at = p->at;
	if (!array_add(&p->moved, &moved, sizeof(moved)))
		v->is_failed = true;
}

uint32_t *ranges_recursion(struct solver *v, const struct node *node)
{
	static uint32_t none;
	uint32_t *n = hash_at(&v->recursion, (uint64_t)node->on->id << 32 | node->function);

	v->is_failed |= !n;
	return n ? n : &none;
}

size_t ranges_find(const struct solver *v, uint32_t place)
{
	size_t low = 0, high = v->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (v->by_base[middle]->base < place)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct shared_stack *ranges_at(const struct solver *v, uint32_t place)
{
	size_t i = ranges_find(v, place);

	return i < v->n ? v->by_base[i] : NULL;
}

struct shared_stack *ranges_add(struct solver *v, uint32_t base, uint32_t part)
{
	struct shared_stack *stack = calloc(1, sizeof(*stack));
	size_t i = ranges_find(v, base);

	if (stack && v->n == v->max) {
		size_t max = v->max ? 2 * v->max : 64;
		void *all = reallocarray(v->by_base, max, sizeof(*v->by_base));

		v->by_base = all ? all : v->by_base;
		v->max = all ? max : v->max;
	}
	if (!stack || v->n == v->max) {
		free(stack);
		v->is_failed = true;
		return NULL;
	}
	memmove(v->by_base + i + 1, v->by_base + i, (v->n++ - i) * sizeof(*v->by_base));
	v->by_base[i] = stack;
	stack->base = base;
	stack->part = part;
	stack->id = v->next_id++;
	return stack;
}

static void move_threads(struct solver *v, const struct shared_stack *from, struct shared_stack *to)
{
	for (uint32_t i = 0; i < v->s->n; i++)
		if (v->s->parts[i].current == from)
			v->s->parts[i].current = to;
}

static void remove_stack(struct solver *v, struct shared_stack *stack)
{
	size_t i = ranges_find(v, stack->base);

	while (v->by_base[i] != stack)
		i++;
	memmove(v->by_base + i, v->by_base + i + 1, (--v->n - i) * sizeof(*v->by_base));
	if (stack->host) {
		stack->host->guests--;
		stack->host->on->guests--;
	}
	move_threads(v, stack, stack->host ? stack->host->on : NULL);
	free(stack);
}

/* --------------------------------------------------------------------- what has ended */

static struct node *first_of(const struct shared_stack *stack)
{
	struct node *node = stack->top;

	while (node->older)
		node = node->older;
	return node;
}

/* @stack is not what ran within its host: learn of it. */
static void put_apart(struct solver *v, struct shared_stack *stack)
{
	*flags_of(v, first_of(stack)->entry) |= EVENT_APART;
	v->has_learned = true;
	stack->host->guests--;
	stack->host->on->guests--;
	stack->host = NULL;
}

/* What runs within @host ends with it; not what returns later. */
static void end_guests(struct solver *v, const struct node *host)
{
	for (size_t i = v->n; host->guests && i--;) {
		struct shared_stack *stack = v->by_base[i];
		uint64_t end;

		if (stack->host != host)
			continue;
		end = first_of(stack)->end;
		if (end != NEVER && end > v->now) {
			put_apart(v, stack);
			continue;
		}
		ranges_end_all(v, stack);
		i = v->n;
	}
}

void ranges_pop(struct solver *v, struct shared_stack *stack)
{
	struct node *node = stack->top;

	end_guests(v, node);
	--*ranges_recursion(v, node);
	stack->top = node->older;
	node->older = v->free;
	v->free = node;
	if (!stack->top)
		remove_stack(v, stack);
}

void ranges_end_top(struct solver *v, struct shared_stack *stack)
{
	const struct node *node = stack->top;

	if (node->end == NEVER && part_of(v, node->entry.part)->dead >= v->now)
		moves_tell(v, node->entry.part,
			   (struct moved){.what = MOVED_UNWOUND, .entry = node->entry.event});
	ranges_pop(v, stack);
}

void ranges_end_all(struct solver *v, struct shared_stack *stack)
{
	for (struct node *node = stack->top, *older; node; node = older) {
		older = node->older;
		ranges_end_top(v, stack);
	}
}

static void vote_first(struct solver *v, struct hash *hash, uint32_t key)
{
	const struct votes none = {0};
	uint32_t *number = hash_at(hash, key);

	if (!number || (!*number && !array_add(&v->votes, &none, sizeof(none)))) {
		v->is_failed = true;
		return;
	}
	if (!*number)
		*number = (uint32_t)v->votes.n;
	((struct votes *)v->votes.data)[*number - 1].first++;
}

void ranges_is_first(struct solver *v, const struct event *event)
{
	vote_first(v, &v->places, event->stack);
	vote_first(v, &v->functions, event->function);
}

void ranges_is_called(struct solver *v, const struct event *event)
{
	uint32_t numbers[] = {hash_get(&v->places, event->stack),
			      hash_get(&v->functions, event->function)};

	for (int i = 0; i < 2; i++)
		if (numbers[i])
			((struct votes *)v->votes.data)[numbers[i] - 1].called++;
}

bool ranges_are_first(const struct solver *v, const struct hash *hash, uint32_t key)
{
	uint32_t number = hash_get(hash, key);

	return number && ((struct votes *)v->votes.data)[number - 1].is_base;
}

bool ranges_have_learned(struct solver *v, bool by_votes)
{
	struct votes *votes = v->votes.data;
	bool have = v->has_learned;

	for (size_t i = 0; by_votes && i < v->votes.n; i++) {
		bool is_base = votes[i].first > votes[i].called;

		if (!votes[i].first && !votes[i].called)
			continue;
		have |= is_base != votes[i].is_base;
		votes[i] = (struct votes){.is_base = is_base};
	}
	return have;
}

void ranges_split(struct solver *v, struct shared_stack *stack, struct node *first)
{
	struct shared_stack *other = ranges_add(v, first->place, stack->part);
	uint8_t *flags = flags_of(v, first->entry);

	ranges_is_first(v, event_at(v->s, first->entry));
	v->is_failed |= !other;
	if (v->is_failed)
		return;
	v->has_learned |= !(*flags & EVENT_BASE);
	*flags |= EVENT_BASE;
	for (struct node *node = stack->top;; node = node->older) {
		--*ranges_recursion(v, node);
		node->on = other;
		stack->guests -= node->guests;
		other->guests += node->guests;
		++*ranges_recursion(v, node);
		if (node == first)
			break;
	}
	other->top = stack->top;
	stack->top = first->older;
	first->older = NULL;
	move_threads(v, stack, other);
}

void ranges_put_within(struct shared_stack *stack, struct node *host)
{
	stack->host = host;
	host->guests++;
	host->on->guests++;
}

/* What runs within calls of @stack does not, for that goes on: learn of it. */
static void put_all_apart(struct solver *v, const struct shared_stack *stack)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->by_base[i]->host && v->by_base[i]->host->on == stack)
			put_apart(v, v->by_base[i]);
}

void ranges_run(struct solver *v, uint32_t part, struct shared_stack *stack)
{
	struct part *p = part_of(v, part), *other = part_of(v, stack->part);

	if (other != p && stack->guests)
		put_all_apart(v, stack);
	if (other != p && other->current == stack) {
		moves_tell(v, stack->part, (struct moved){.what = MOVED_LEFT});
		other->current = NULL;
	}
	stack->part = part;
	p->current = stack;
}

void ranges_clear(struct solver *v)
{
	while (v->n) {
		struct shared_stack *stack = v->by_base[--v->n];

		for (struct node *node = stack->top; node; node = stack->top) {
			if (v->is_first && node->lasts)
				*flags_of(v, node->entry) |= EVENT_LASTS;
			stack->top = node->older;
			node->older = v->free;
			v->free = node;
		}
		free(stack);
	}
	hash_free(&v->recursion);
}
