/* SPDX-License-Identifier: MIT */
/*
 * Where a traced function jumps to a stub of its own (SHUNT_HAS_ENTRY_STUBS): because the
 * architecture lets a nop become a branch while CPUs run it, and nothing else, the entry can
 * neither save its return address nor say which entry it is. The stub says so, and has the way
 * back.
 *
 * They are in pools within reach of the entry, as veneers are (text/veneer.c). One never changes
 * and is never taken back: a preempted thread can stand in it for any time. There is one for each
 * entry and what it calls: an entry calls one of four (SHUNT_STUB_LIST and the following). A module
 * that is loaded again where it was finds those that were made for it, if it is the same there.
 *
 * Update lock held.
 */
#include <errno.h>
#include <string.h>

#include <shunt/port.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/entry/modules.h"
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
	uintptr_t ip, called; /* the key */
	uintptr_t stub;       /* 0: free */
	uintptr_t next;       /* where it goes back to */
	bool is_gone;         /* with its module: what is at @ip now may be another function */
};

/* Replaced as a whole: a copy of the process may be made at any time. */
struct table {
	size_t size, used;
	struct known places[];
};

static struct table *table;

static struct known *find_place(struct table *t, const struct known *key)
{
	size_t i = (size_t)((key->ip ^ key->called << 7) * 0x9e3779b97f4a7c15u >> 20);

	for (;; i++) {
		struct known *k = &t->places[i & (t->size - 1)];

		if (!k->stub || (k->ip == key->ip && k->called == key->called))
			return k;
	}
}

static size_t table_bytes(size_t size)
{
	return sizeof(struct table) + size * sizeof(struct known);
}

static bool make_room(void)
{
	struct table *old = table, *new;
	size_t size = old ? 2 * old->size : 1024;

	if (old && 2 * (old->used + 1) <= old->size)
		return true;
	new = shunt_port_alloc(table_bytes(size));
	if (!new)
		return false;
	new->size = size;
	new->used = old ? old->used : 0;
	for (size_t i = 0; old && i < old->size; i++)
		if (old->places[i].stub)
			*find_place(new, &old->places[i]) = old->places[i];
	*(struct table *volatile *)&table = new;
	if (old)
		shunt_port_free(old, table_bytes(old->size));
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
		return shunt_no_veneer(shunt_port_no_memory());
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
	int ret;

	if (!pool)
		return 0;
	at = (uintptr_t)&pool->stubs[pool->n];
	called = in_reach(at, key->called);
	if (!called)
		return 0;
	stub = shunt_entry_stub_for(at, key->ip, key->next, called);
	ret = shunt_write_new_text(&pool->stubs[pool->n], &stub, sizeof(stub));
	if (ret) {
		(void)shunt_no_veneer(ret);
		return 0;
	}
	pool->n++;
	return at;
}

static void remember(struct known *known, const struct known *key, uintptr_t stub)
{
	volatile uintptr_t *last = &known->stub;

	table->used += !known->stub;
	known->ip = key->ip;
	known->called = key->called;
	known->next = key->next;
	known->is_gone = false;
	*last = stub;
}

uintptr_t shunt_port_entry_stub(uintptr_t ip, uintptr_t called)
{
	struct known key = {.ip = ip, .called = called}, *known;
	uintptr_t stub;

	if (!make_room()) {
		(void)shunt_no_veneer(shunt_port_no_memory());
		return 0;
	}
	known = find_place(table, &key);
	if (known->stub && !known->is_gone)
		return known->stub;
	/* The function is there: of one that is gone nothing is asked but what was made for it. */
	key.next = shunt_entry_next(ip);
	stub = known->stub && known->next == key.next ? known->stub : add(&key);
	if (stub)
		remember(known, &key, stub);
	return stub;
}

void shunt_entry_stubs_forget(uintptr_t start, uintptr_t end)
{
	if (shunt_port_lock())
		return;
	for (size_t i = 0; table && i < table->size; i++)
		if (table->places[i].ip >= start && table->places[i].ip < end)
			table->places[i].is_gone = true;
	shunt_port_unlock();
}
