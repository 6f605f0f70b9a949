/* SPDX-License-Identifier: MIT */
/*
 * Veneers: stubs within reach of a module that jump to a target which is not. A
 * program and its shared objects are some 40 TiB apart.
 *
 *	jmp *target(%rip); ud2; target: .quad ...
 *
 * A veneer never changes and is never taken back, because a preempted thread can
 * stand in it for any time; there is one for each target and neighbourhood, however
 * many sites use it and however often. Pools are mapped readable and executable, and
 * written as text is.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/insn.h"
#include "linux/linux.h"
#include "linux/veneer.h"

struct shunt_pool *shunt_pools;

/* Where a target was found last: most look-ups are the same ones over again. */
static struct {
	uintptr_t target;
	struct shunt_veneer *veneer;
} cache[64];

static bool is_near(uintptr_t from, uintptr_t to)
{
	/* An instruction of 5 or 6 bytes: stay clear of the very ends. */
	return shunt_insn_reach(from + 5, to) && shunt_insn_reach(from + 6, to);
}

/*
 * Map a pool within reach of @near: below it, because a program's heap grows
 * upward behind it, else above. Addresses are tried from the module outward.
 */
static void *map_near(uintptr_t near)
{
	const intptr_t step = 1 << 20, limit = 0x7fff0000 - SHUNT_POOL_SIZE;

	for (int sign = -1; sign <= 1; sign += 2) {
		for (intptr_t off = step; off < limit; off += step) {
			uintptr_t at = ((near & -(uintptr_t)step) + (uintptr_t)(sign * off));
			void *p = mmap((void *)at, SHUNT_POOL_SIZE, PROT_READ | PROT_EXEC,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

			if (p == (void *)at)
				return p;
			if (p != MAP_FAILED)
				(void)munmap(p, SHUNT_POOL_SIZE); /* a kernel before 4.17 */
			else if (errno != EEXIST && errno != EPERM && errno != ENOMEM)
				return NULL;
		}
	}
	return NULL;
}

static struct shunt_pool *add_pool(uintptr_t near)
{
	struct shunt_pool **p = &shunt_pools, *pool = shunt_port_alloc(sizeof(*pool));

	if (!pool)
		return NULL;
	pool->veneers = map_near(near);
	if (!pool->veneers) {
		shunt_port_free(pool, sizeof(*pool));
		return NULL;
	}
	while (*p)
		p = &(*p)->next;
	*p = pool;
	shunt_frames_add(pool);
	return pool;
}

static struct shunt_veneer *find(uintptr_t near, uintptr_t target)
{
	for (struct shunt_pool *pool = shunt_pools; pool; pool = pool->next) {
		if (!is_near(near, (uintptr_t)pool->veneers) ||
		    !is_near(near, (uintptr_t)pool->veneers + SHUNT_POOL_SIZE))
			continue;
		for (size_t i = 0; i < pool->n; i++)
			if (pool->veneers[i].target == target)
				return &pool->veneers[i];
	}
	return NULL;
}

static struct shunt_pool *pool_with_room(uintptr_t near)
{
	for (struct shunt_pool *pool = shunt_pools; pool; pool = pool->next)
		if (pool->n < SHUNT_POOL_SIZE / sizeof(struct shunt_veneer) &&
		    is_near(near, (uintptr_t)pool->veneers) &&
		    is_near(near, (uintptr_t)pool->veneers + SHUNT_POOL_SIZE))
			return pool;
	return add_pool(near);
}

static int write_veneer(struct shunt_veneer *at, uintptr_t target)
{
	struct shunt_veneer veneer = {{0xff, 0x25, 2, 0, 0, 0}, {0x0f, 0x0b}, target};
	struct shunt_write w[3];
	size_t done = 0;
	int ret;

	for (size_t i = 0; i < 3; i++) {
		w[i].addr = (uint8_t *)at + done;
		w[i].len = (uint8_t)(i < 2 ? 7 : 2);
		memcpy(w[i].bytes, (const uint8_t *)&veneer + done, w[i].len);
		done += w[i].len;
	}
	shunt_text_begin(1, SHUNT_WAY_ALONE); /* nobody runs it, and no batch has begun */
	ret = shunt_port_text_write(w, 3);
	shunt_text_end();
	return ret;
}

/* Nobody reaches a new veneer before the core syncs of the poke that it is for. */
static struct shunt_veneer *add(uintptr_t near, uintptr_t target)
{
	struct shunt_pool *pool = pool_with_room(near);

	if (!pool || write_veneer(&pool->veneers[pool->n], target))
		return NULL;
	return &pool->veneers[pool->n++];
}

uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	size_t slot = target / 16 % (sizeof(cache) / sizeof(cache[0]));
	struct shunt_veneer *veneer = cache[slot].veneer;

	if (!veneer || cache[slot].target != target || !is_near(near, (uintptr_t)veneer))
		veneer = find(near, target);
	if (!veneer)
		veneer = add(near, target);
	cache[slot].target = target;
	cache[slot].veneer = veneer;
	return (uintptr_t)veneer;
}
