/* SPDX-License-Identifier: MIT */
/* The stacks of trace_moves_stacks.c: ranges of places that do not overlap, of open calls. */
#ifndef SHUNT_TOOLS_TRACE_MOVES_RANGES_H
#define SHUNT_TOOLS_TRACE_MOVES_RANGES_H

#include "trace_moves_parts.h"

#define NEVER UINT64_MAX

struct node {
	struct node *older; /* the next one of its stack */
	struct shared_stack *on;
	struct ref entry;
	uint32_t place, function;
	uint32_t guests; /* stacks that run within it */
	uint64_t end;    /* ticks; NEVER */
	uint32_t end_part;
	bool lasts; /* what stands at its place may be inlined in it */
};

struct shared_stack {
	uint32_t base, id, part; /* @part: where it was seen last */
	uint32_t guests;         /* stacks that run within its calls */
	struct node *top, *host;
};

/* Calls at a place, or of a function: the first of their stacks; or else called on it. */
struct votes {
	uint32_t first, called;
	bool is_base; /* in this round */
};

struct solver {
	struct finder *s;
	struct shared_stack **by_base;
	size_t n, max;
	uint32_t next_id;
	struct hash recursion; /* by stack and function: how many are open */
	struct hash places;    /* number of its votes + 1 */
	struct hash functions;
	struct array votes; /* of struct votes, for those that were the first once */
	struct hash frames; /* by function and distance, if not NEAR: of what it has called */
	struct array slabs; /* of struct node * */
	struct node *free;
	uint64_t now, looks;
	bool is_first, has_learned;
	bool is_failed; /* no memory */
};

static inline struct part *part_of(const struct solver *v, uint32_t part)
{
	return &v->s->parts[part];
}

static inline uint8_t *flags_of(const struct solver *v, struct ref entry)
{
	return &part_of(v, entry.part)->flags[entry.event];
}

/* To the thread of @part, before what it does next, or @moved->at. */
void moves_tell(struct solver *v, uint32_t part, struct moved moved);

/* Room for one more call; NULL: no memory. */
struct node *ranges_node(struct solver *v);
/* How many calls of its function are open on its stack. */
uint32_t *ranges_recursion(struct solver *v, const struct node *node);
/* The number of the first stack whose base is at least @place; that stack, or NULL. */
size_t ranges_find(const struct solver *v, uint32_t place);
struct shared_stack *ranges_at(const struct solver *v, uint32_t place);
/* NULL: no memory. */
struct shared_stack *ranges_add(struct solver *v, uint32_t base, uint32_t part);
/* Until its last call ends, @stack runs within @host. */
void ranges_put_within(struct shared_stack *stack, struct node *host);
/* The topmost call goes, and with the last one the stack. */
void ranges_pop(struct solver *v, struct shared_stack *stack);
/* It has ended: by its return, which is told there; else, as is seen now, by something else. */
void ranges_end_top(struct solver *v, struct shared_stack *stack);
void ranges_end_all(struct solver *v, struct shared_stack *stack);
/* The call of @event, an entry, is the first of its stack: others at its place are, too. */
void ranges_is_first(struct solver *v, const struct event *event);
/* It is called on its stack, as it seems. */
void ranges_is_called(struct solver *v, const struct event *event);
/* Whether calls of @key, in @hash, are the first of their stacks, as most have been. */
bool ranges_are_first(const struct solver *v, const struct hash *hash, uint32_t key);
/* A round ends; whether another one has more to go by. Votes may go to and fro. */
bool ranges_have_learned(struct solver *v, bool by_votes);
/* What is on top of @stack down to @first is another stack; learn of it. */
void ranges_split(struct solver *v, struct shared_stack *stack, struct node *first);
/* What @part does is on @stack. */
void ranges_run(struct solver *v, uint32_t part, struct shared_stack *stack);
/* All are gone, and what lasts is marked. */
void ranges_clear(struct solver *v);

#endif
