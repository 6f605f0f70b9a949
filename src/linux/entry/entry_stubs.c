/* SPDX-License-Identifier: MIT */
/*
 * Where a traced function jumps to a stub of its own (SHUNT_HAS_ENTRY_STUBS): because the architecture
 * lets a nop become a branch while CPUs run it, and nothing else, the entry can neither save its
 * return address nor say which entry it is. The stub says so, and has the way back.
 *
 * They are in pools within reach of the entry, as veneers are (text/veneer.c). One never changes and
 * is never taken back: a preempted thread can stand in it for any time. There is one for each entry
 * and what it calls: an entry calls one of four (enum SHUNT_STUB_*). A module that is loaded again
 * where it was finds those that were made for it.
 *
 * Update lock held.
 */
#include <string.h>

#include <shunt/port.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/text/text.h"
#include "linux/text/veneer.h"

struct pool {
	struct pool *next;
	struct shunt_entry_stub *stubs; /* SHUNT_POOL_SIZE bytes */
	size_t n;                       /* in use */
	struct shunt_frames frames;
};

static struct pool *pools; /* newest first */

/* Those that there are, by a hash of the key: open addressing, a power of 2. */
struct known {
	uintptr_t ip, next, called; /* the key */
	uintptr_t stub;             /* 0: free */
};

static struct {
	struct known *places;
	size_t size, used;
} table;

static struct known *find_place(const struct known *key)
{
	size_t i = (size_t)((key->ip ^ key->called << 7) * 0x9e3779b97f4a7c15u >> 20);

	for (;; i++) {
		struct known *k = &table.places[i & (table.size - 1)];

		if (!k->stub ||
		    (k->ip == key->ip && k->next == key->next && k->called == key->called))
			return k;
	}
}

static bool make_room(void)
{
	struct known *old = table.places;
	size_t size = table.size;

	if (2 * (table.used + 1) <= size)
		return true;
	table.places = shunt_port_alloc((size ? 2 * size : 1024) * sizeof(*old));
	if (!table.places) {
		table.places = old;
		return false;
	}
	table.size = size ? 2 * size : 1024;
	for (size_t i = 0; i < size; i++)
		if (old[i].stub)
			*find_place(&old[i]) = old[i];
	if (old)
		shunt_port_free(old, size * sizeof(*old));
	return true;
}

/* ------------------------------------------------------------------------ pools */

static bool is_near(uintptr_t from, const struct pool *pool)
{
	const uintptr_t at = (uintptr_t)pool->stubs;

	return shunt_insn_reach(from, at) && shunt_insn_reach(from, at + SHUNT_POOL_SIZE) &&
	       shunt_insn_reach(at, from) && shunt_insn_reach(at + SHUNT_POOL_SIZE, from);
}

static struct pool *pool_with_room(uintptr_t near)
{
	struct pool *pool = pools;

	while (pool &&
	       (pool->n == SHUNT_POOL_SIZE / sizeof(pool->stubs[0]) || !is_near(near, pool)))
		pool = pool->next;
	if (pool)
		return pool;
	pool = shunt_port_alloc(sizeof(*pool));
	if (!pool)
		return NULL;
	pool->stubs = shunt_map_pool(near);
	if (!pool->stubs) {
		shunt_port_free(pool, sizeof(*pool));
		return NULL;
	}
	shunt_frames_add(&pool->frames, (uintptr_t)pool->stubs, SHUNT_POOL_SIZE);
	pool->next = pools;
	pools = pool;
	return pool;
}

/* What @called is for the stub at @at: itself, or a veneer. */
static uintptr_t in_reach(uintptr_t at, uintptr_t called)
{
	return shunt_insn_reach(at + SHUNT_PLAIN_LEN, called) ? called
							       : shunt_port_veneer(at, called);
}

static uintptr_t add(const struct known *key)
{
	struct pool *pool = pool_with_room(key->ip);
	uintptr_t at, called;
	struct shunt_entry_stub stub;

	if (!pool)
		return 0;
	at = (uintptr_t)&pool->stubs[pool->n];
	called = in_reach(at, key->called);
	if (!called)
		return 0;
	stub = shunt_entry_stub_for(at, key->ip, key->next, called);
	if (shunt_write_new_text(&pool->stubs[pool->n], &stub, sizeof(stub)))
		return 0;
	pool->n++;
	return at;
}

uintptr_t shunt_port_entry_stub(uintptr_t ip, uintptr_t called)
{
	const struct known key = {.ip = ip, .next = shunt_entry_next(ip), .called = called};
	struct known *known;

	if (!make_room())
		return 0;
	known = find_place(&key);
	if (known->stub)
		return known->stub;
	*known = key;
	known->stub = add(&key);
	table.used += known->stub != 0;
	return known->stub;
}
