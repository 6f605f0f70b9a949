/* SPDX-License-Identifier: MIT */
/*
 * Activation records, in pages of records, one for each page of stack, found by the bits of its
 * address: three levels of tables, that are made when they are first needed and stay.
 */
#include "linux/entry/activation.h"

#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "arch/arch.h"
#include "linux/base/syscall.h"

#define PAGE_BITS   12
#define PAGE_WORDS  512u
#define LEAF_BITS   11
#define MIDDLE_BITS 12
#define ROOT_BITS   (SHUNT_ADDRESS_BITS - MIDDLE_BITS - LEAF_BITS - PAGE_BITS)

struct leaf {
	void *_Atomic pages[1u << LEAF_BITS]; /* of PAGE_WORDS records */
};
struct middle {
	void *_Atomic leaves[1u << MIDDLE_BITS];
};

/* One for records of entries, one for those of calls. */
static void *_Atomic roots[2][1u << ROOT_BITS];

/* This thread's last entry that has not returned. */
static __thread struct shunt_activation *top __attribute__((tls_model("initial-exec")));

/* --------------------------------------------------------------------- memory */

/*
 * Pieces are cut from chunks of 1 MiB, aligned to that, by one compare and swap: @next is where the
 * next piece begins, 0 or a multiple of the chunk's size where there is none. At most @MOST chunks:
 * stacks at ever new addresses must not take all the memory.
 */
#define CHUNK ((size_t)1 << 20)
#define MOST  2048u

static _Atomic uintptr_t next;
static _Atomic uint32_t nr_chunks;

static void map_chunk(void *arg)
{
	uintptr_t *chunk = arg, p, start;

	*chunk = 0;
	if (atomic_fetch_add_explicit(&nr_chunks, 1, memory_order_relaxed) >= MOST) {
		atomic_store_explicit(&nr_chunks, MOST, memory_order_relaxed);
		return;
	}
	p = (uintptr_t)shunt_syscall6(SYS_mmap, 0, 2 * CHUNK, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p > -4096ul)
		return;
	start = (p + CHUNK - 1) & -CHUNK;
	if (start > p)
		(void)shunt_syscall(SYS_munmap, (long)p, (long)(start - p), 0, 0);
	if (start + CHUNK < p + 2 * CHUNK)
		(void)shunt_syscall(SYS_munmap, (long)(start + CHUNK), (long)(p + CHUNK - start), 0,
				    0);
	*chunk = start;
}

static void unmap_chunk(void *arg)
{
	(void)shunt_syscall(SYS_munmap, (long)*(uintptr_t *)arg, CHUNK, 0, 0);
}

/* @size bytes, zeroed; NULL: none. */
static void *cut(size_t size)
{
	uintptr_t at = atomic_load_explicit(&next, memory_order_relaxed), chunk = 0;

	size = (size + 63) & -(size_t)64;
	for (;;) {
		uintptr_t from = at;

		if (!(at % CHUNK) || at % CHUNK + size > CHUNK) {
			if (!chunk)
				shunt_keeping_vectors(map_chunk, &chunk);
			if (!chunk)
				return NULL;
			from = chunk;
		}
		if (!atomic_compare_exchange_weak_explicit(
			    &next, &at, from + size, memory_order_relaxed, memory_order_relaxed))
			continue;
		if (chunk && from != chunk) {
			shunt_keeping_vectors(unmap_chunk, &chunk);
			atomic_fetch_sub_explicit(&nr_chunks, 1, memory_order_relaxed);
		}
		return (void *)from;
	}
}

/* A piece that another thread was quicker with is lost: that happens once for each table. */
static void *make(void *_Atomic *slot, size_t size)
{
	void *piece = cut(size), *other = NULL;

	if (!piece)
		return NULL;
	return atomic_compare_exchange_strong_explicit(slot, &other, piece, memory_order_acq_rel,
						       memory_order_acquire)
		       ? piece
		       : other;
}

/* What @slot has; where it has none, a new one of @size; 0: NULL. */
static inline void *table(void *_Atomic *slot, size_t size)
{
	/* Pairs with the release in make(). */
	void *found = atomic_load_explicit(slot, memory_order_acquire);

	return found || !size ? found : make(slot, size);
}

static inline struct shunt_activation *lookup(uintptr_t sp, bool calls, bool make_it)
{
	size_t all = make_it ? SIZE_MAX : 0; /* those that are missing are made */
	uintptr_t page = sp >> PAGE_BITS;
	struct middle *middle;
	struct leaf *leaf;
	size_t size =
		calls ? sizeof(struct shunt_call_activation) : sizeof(struct shunt_activation);
	char *records;

	if (sp >> SHUNT_ADDRESS_BITS)
		return NULL;
	middle = table(&roots[calls][page >> (LEAF_BITS + MIDDLE_BITS)], sizeof(*middle) & all);
	if (!middle)
		return NULL;
	leaf = table(&middle->leaves[page >> LEAF_BITS & ((1u << MIDDLE_BITS) - 1)],
		     sizeof(*leaf) & all);
	if (!leaf)
		return NULL;
	records = table(&leaf->pages[page & ((1u << LEAF_BITS) - 1)], PAGE_WORDS * size & all);
	return records ? (struct shunt_activation *)(records + size * (sp >> 3 & (PAGE_WORDS - 1)))
		       : NULL;
}

struct shunt_activation *shunt_activation_find(uintptr_t sp, bool calls)
{
	return lookup(sp, calls, false);
}

struct shunt_activation *shunt_activation_get(uintptr_t sp, bool calls)
{
	return lookup(sp, calls, true);
}

/* ----------------------------------------------------------------------- depth */

/*
 * Entries of this thread that are below @sp have ended, as long as they are on one stack: each
 * one's parent is above it there. (On two stacks this can be wrong; all that follows is a wrong
 * depth.)
 */
static struct shunt_activation *below_of(struct shunt_activation *a)
{
	struct shunt_call_activation *below =
		a->is_call ? ((struct shunt_call_activation *)a)->below : NULL;

	return below ? &below->a : NULL;
}

static struct shunt_activation *pop_ended(uintptr_t sp, bool calls)
{
	struct shunt_activation *a = top;

	/* At @sp itself: the one that is overwritten now; of calls one around. */
	while (a && (a->sp < sp || (a->sp == sp && !calls))) {
		struct shunt_activation *parent = a->parent;

		if (!parent || (parent->sp <= a->sp && parent != below_of(a)))
			return parent;
		a = parent;
	}
	return a;
}

/* Where the word stands by which the function returns. */
static uintptr_t word_at(const struct shunt_activation *a)
{
	return a->is_call ? ((const struct shunt_call_activation *)a)->at : a->sp;
}

/* Whether its return address is there no more, as far as that is on the same page of stack. */
static bool is_left(const struct shunt_activation *a, uintptr_t sp)
{
	uintptr_t at = word_at(a);

	return a->word && at > sp && at >> PAGE_BITS == sp >> PAGE_BITS &&
	       !shunt_is_returned_by(a->word, at, sp);
}

static struct shunt_activation *pop_left(uintptr_t sp, struct shunt_activation *a)
{
	while (a && is_left(a, sp)) {
		struct shunt_activation *parent = a->parent;

		a->is_live = false;
		a = parent && (parent->sp > a->sp || parent == below_of(a)) ? parent : NULL;
	}
	return a;
}

/*
 * The nearest record above @sp on its page of stack, below @limit, whose return address is still
 * the stub: a function around the one at @sp that this thread has not entered last, because it has
 * changed stacks since. That page can be read.
 */
static struct shunt_activation *find_near(uintptr_t sp, uintptr_t limit)
{
	struct shunt_activation *a = lookup(sp, false, false);
	uintptr_t end = (sp | ((1u << PAGE_BITS) - 1)) + 1;

	if (!a)
		return NULL;
	if (limit > sp && limit < end)
		end = limit;
	for (uintptr_t at = sp + 8; at < end; at += 8) {
		a++;
		if (!a->is_live)
			continue;
		if (shunt_is_returned_by(a->word, at, sp))
			return a;
		a->is_live = false;
	}
	return NULL;
}

struct shunt_activation *shunt_activation_parent(uintptr_t sp, bool calls)
{
	struct shunt_activation *last = pop_left(sp, pop_ended(sp, calls));
	struct shunt_activation *near = find_near(sp, last ? last->sp : 0);

	if (near)
		return near;
	return last && last->is_live ? last : NULL;
}

/* What is at @a moves to a place of its own. */
static bool push(struct shunt_call_activation *call)
{
	struct shunt_call_activation *room = call->spare;
	struct shunt_call_activation *rest = room ? room->spare : NULL;

	if (!room)
		room = cut(sizeof(*room));
	if (!room)
		return false;
	*room = *call;
	call->below = room;
	call->spare = rest;
	return true;
}

static void pop(struct shunt_call_activation *call)
{
	struct shunt_call_activation *room = call->below, *rest = call->spare;

	*call = *room;
	room->spare = rest;
	call->spare = room;
}

bool shunt_activation_begin(struct shunt_activation *a, struct shunt_activation *parent,
			    uintptr_t func, uintptr_t sp, bool calls)
{
	if (calls && a->mask) {
		if (!push((struct shunt_call_activation *)a))
			return false;
		if (parent == a)
			parent = below_of(a);
	}
	a->func = func;
	a->sp = sp;
	a->parent = parent;
	a->depth = parent ? parent->depth + 1 : 0;
	a->is_live = true;
	a->is_call = calls;
	a->mask = 0;
	a->word = 0;
	top = a;
	return true;
}

void shunt_activation_end(struct shunt_activation *a)
{
	bool is_nested = below_of(a) != NULL;

	top = a->parent;
	a->mask = 0;
	a->is_live = false;
	if (!is_nested)
		return;
	pop((struct shunt_call_activation *)a);
	top = a;
}

/* ----------------------------------------------------------------------- calls */

void shunt_activation_drop_left(struct shunt_activation *a, uintptr_t ip, uintptr_t site)
{
	struct shunt_call_activation *call = (struct shunt_call_activation *)a;

	while (a && a->mask && (call->ip == ip || call->site != site)) {
		bool is_nested = call->below != NULL;

		if (top == a && !is_nested)
			top = a->parent;
		a->mask = 0;
		a->is_live = false;
		if (!is_nested)
			return;
		pop(call);
	}
}

/* How far above the stack pointer at a call the word is looked for that the function returns by. */
#define NEAR_WORDS 64u

void shunt_activation_note_call(struct shunt_activation *a, uintptr_t ip, uintptr_t site)
{
	struct shunt_call_activation *call = (struct shunt_call_activation *)a;
	uintptr_t at = a->sp;

	call->ip = ip;
	call->site = site;
	for (unsigned i = 0; i < NEAR_WORDS; i++, at += 8) {
		if ((at ^ a->sp) >> PAGE_BITS)
			return;
		if (*(const uintptr_t *)at != site)
			continue;
		call->at = at;
		a->word = site;
		return;
	}
}

/* How far below that of its entry the stack pointer at the exit may be: alloca(). */
#define NEAR 4096u

struct shunt_activation *shunt_activation_of_call(uintptr_t func, uintptr_t sp)
{
	struct shunt_activation *a = top;

	if (a && a->func == func && a->sp >= sp && a == lookup(a->sp, true, false))
		return a;
	for (uintptr_t at = sp; at < sp + NEAR; at += 8) {
		a = lookup(at, true, false);
		if (!a) {
			at |= (1u << PAGE_BITS) - 8;
			continue;
		}
		if (a->mask && a->func == func)
			return a;
	}
	return NULL;
}

/* How big the frame of a function is that is looked for from its beginning. */
#define FRAME 65536u

struct shunt_activation *shunt_activation_of_jump(uintptr_t func, uintptr_t sp)
{
	struct shunt_activation *a;

	for (uintptr_t at = sp - 8; sp - at < FRAME; at -= 8) {
		a = lookup(at, true, false);
		if (a && a->mask && a->func == func)
			return a;
		if (!a)
			at &= ~(uintptr_t)((1u << PAGE_BITS) - 1); /* none on this page */
	}
	a = top;
	return a && a->func == func && a->sp < sp && a == lookup(a->sp, true, false) ? a : NULL;
}
