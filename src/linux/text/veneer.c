/* SPDX-License-Identifier: MIT */
/*
 * Veneers: stubs within reach of a module that jump to a target which is not. A
 * program and its shared objects are some 40 TiB apart.
 *
 * Each module has an area of them in its own text, jumps through words in its own data
 * (<shunt/module.h>), and so with call frame information of its own. To take one into
 * use is to store its target. Where the area is full, or out of a site's reach, pools are
 * mapped, and written as text is (struct shunt_veneer).
 *
 * A veneer never changes and is never taken back, because a preempted thread can
 * stand in it for any time; there is one for each target and module (in pools,
 * neighbourhood), however many sites use it and however often. An area goes with its
 * module: only that module's sites use it, and its trampolines go too.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/module.h>
#include <shunt/port.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/text/area.h"
#include "linux/text/frames.h"
#include "linux/text/text.h"
#include "linux/text/veneer.h"

struct shunt_pool *shunt_pools;

/* In the pools, where a target was found last: most look-ups are the same ones over again. */
static struct {
	uintptr_t target;
	struct shunt_veneer *veneer;
} cache[64];

static bool is_near(uintptr_t from, uintptr_t to)
{
	/* An instruction of up to 6 bytes: stay clear of the very ends. */
	return shunt_insn_reach(from + 5, to) && shunt_insn_reach(from + 6, to);
}

static int far_error = -ERANGE;

int shunt_port_far_error(void)
{
	return far_error;
}

void *shunt_no_veneer(int error)
{
	far_error = error;
	return NULL;
}

/*
 * What has been seen to be taken since the update lock was taken, in steps of STEP: many sites next
 * to each other ask for the same, and there are 4,000 places around each.
 */
#define STEP ((uintptr_t)1 << 20)

static struct {
	uintptr_t first, last; /* 0: nothing */
} taken;

void shunt_pools_begin(void)
{
	taken.first = taken.last = 0;
}

/* All from @first to @last is taken. */
static void note_taken(uintptr_t first, uintptr_t last)
{
	if (taken.last && first <= taken.last + STEP && last + STEP >= taken.first) {
		first = first < taken.first ? first : taken.first;
		last = last > taken.last ? last : taken.last;
	}
	taken.first = first;
	taken.last = last;
}

static int mmap_failed(void)
{
	shunt_failed_call = "mmap";
	return -errno;
}

/* NULL: not to be had; *error: another reason than that it is taken. */
static void *map_at(uintptr_t at, int *error)
{
	void *p = mmap((void *)at, SHUNT_POOL_SIZE, PROT_READ | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == (void *)at)
		return p;
	if (p != MAP_FAILED)
		(void)munmap(p, SHUNT_POOL_SIZE); /* a kernel before 4.17 */
	else if (errno != EEXIST && errno != EPERM && errno != ENOMEM)
		*error = mmap_failed();
	return NULL;
}

/* Nothing within reach: whether anywhere. ENOMEM is also of addresses that no process has. */
static int why_none(void)
{
	void *p = mmap(NULL, SHUNT_POOL_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return mmap_failed();
	(void)munmap(p, SHUNT_POOL_SIZE);
	return -ERANGE;
}

/*
 * Map a pool within reach of @near: below it, because a program's heap grows
 * upward behind it, else above. Addresses are tried from the module outward.
 */
void *shunt_map_pool(uintptr_t near)
{
	const uintptr_t limit = SHUNT_REACH - SHUNT_POOL_SIZE, base = near & -STEP;
	uintptr_t first = base, last = base;
	int error = 0;

	for (int sign = -1; sign <= 1; sign += 2) {
		for (uintptr_t off = STEP; off < limit; off += STEP) {
			uintptr_t at = sign < 0 ? base - off : base + off;
			void *p;

			if (sign < 0 ? off >= base : at < base)
				break; /* no address */
			first = at < first ? at : first;
			last = at > last ? at : last;
			if (taken.last && at >= taken.first && at <= taken.last)
				continue;
			p = map_at(at, &error);
			if (p)
				return p;
			if (error)
				return shunt_no_veneer(error);
		}
	}
	far_error = why_none();
	if (far_error == -ERANGE)
		note_taken(first, last);
	return NULL;
}

static struct shunt_pool *add_pool(uintptr_t near)
{
	struct shunt_pool **p = &shunt_pools, *pool = shunt_port_alloc(sizeof(*pool));

	if (!pool)
		return shunt_no_veneer(shunt_port_no_memory());
	pool->veneers = shunt_map_pool(near);
	if (!pool->veneers) {
		shunt_port_free(pool, sizeof(*pool));
		return NULL;
	}
	while (*p)
		p = &(*p)->next;
	*p = pool;
	shunt_frames_add(&pool->frames, (uintptr_t)pool->veneers, SHUNT_POOL_SIZE);
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

int shunt_write_new_text(void *at, const void *code, size_t len)
{
	const size_t most = sizeof(((struct shunt_write *)0)->bytes) & -(size_t)SHUNT_INSN_ALIGN;
	struct shunt_write w[SHUNT_NEW_TEXT_MAX / 4];
	size_t n = 0;
	int ret;

	for (size_t done = 0; done < len; done += w[n++].len) {
		size_t left = len - done;

		w[n].addr = (uint8_t *)at + done;
		w[n].len = (uint8_t)(left < most ? left : most);
		memcpy(w[n].bytes, (const uint8_t *)code + done, w[n].len);
	}
	shunt_text_begin(1, SHUNT_WAY_ALONE, false); /* nobody runs it, and no batch has begun */
	ret = shunt_port_text_write(w, n);
	shunt_text_end();
	return ret;
}

static int write_veneer(struct shunt_veneer *at, uintptr_t target)
{
	struct shunt_veneer veneer = shunt_veneer_to(target);
	int ret = shunt_write_new_text(at, &veneer, sizeof(veneer));

	return ret || !SHUNT_NEW_CODE_SYNC ? ret : shunt_port_core_sync();
}

/* Nobody reaches a new veneer before the core syncs of the poke that it is for. */
static struct shunt_veneer *add(uintptr_t near, uintptr_t target)
{
	struct shunt_pool *pool = pool_with_room(near);
	int ret;

	if (!pool)
		return NULL;
	ret = write_veneer(&pool->veneers[pool->n], target);
	if (ret)
		return shunt_no_veneer(ret);
	return &pool->veneers[pool->n++];
}

static uintptr_t from_pool(uintptr_t near, uintptr_t target)
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

/* ---------------------------------------------------------- the modules' areas */

/* The module of the site at @near, most often that of the last one; or NULL. */
static const struct shunt_module *module_of(uintptr_t near)
{
	static struct shunt_loaded *last;
	struct shunt_loaded *m = last;

	if (m && m->module && shunt_in_range(m->range, near, 1))
		return m->module;
	for (m = shunt_first_loaded(); m; m = m->next)
		if (m->module && shunt_in_range(m->range, near, 1)) {
			last = m;
			return m->module;
		}
	return NULL;
}

/* The word that a veneer jumps through, as its code says. */
static void **word_of(const uint8_t *veneer)
{
	uint8_t bytes[SHUNT_AREA_VENEER];

	shunt_copy_text(bytes, veneer, sizeof(bytes));
	return (void **)shunt_area_veneer_word(bytes, (uintptr_t)veneer);
}

/*
 * A hash table with open addressing, from which nothing is ever taken: the first word
 * that is 0 ends a search, and is where @target belongs. What reaches the site
 * reaches its target: it is stored before any byte of the site.
 */
static uintptr_t from_area(const struct shunt_module *module, uintptr_t near, uintptr_t target)
{
	size_t n = (size_t)(module->veneers_end - module->veneers) / SHUNT_AREA_VENEER;

	if (!is_near(near, (uintptr_t)module->veneers) ||
	    !is_near(near, (uintptr_t)module->veneers_end) || !n ||
	    !shunt_area_are_readable((uintptr_t)module->veneers, n * SHUNT_AREA_VENEER))
		return 0;
	for (size_t tries = 0, i = target / 16; tries < n; tries++, i++) {
		const uint8_t *veneer = module->veneers + i % n * SHUNT_AREA_VENEER;
		void **word = word_of(veneer);

		if (!*word)
			__atomic_store_n(word, (void *)target, __ATOMIC_RELEASE);
		if (*word == (void *)target)
			return (uintptr_t)veneer;
	}
	return 0;
}

uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	const struct shunt_module *module = module_of(near);
	uintptr_t veneer;

	far_error = -ERANGE;
	veneer = module ? from_area(module, near, target) : 0;

	return veneer ? veneer : from_pool(near, target);
}
