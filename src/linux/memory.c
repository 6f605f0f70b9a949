/* SPDX-License-Identifier: MIT */
/*
 * The port's memory: pages straight from the kernel, because malloc() may be the
 * very program that is being patched, and the page that a fork wipes.
 */
#include <string.h>
#include <sys/mman.h>

#include "linux/linux.h"

void *shunt_port_alloc(size_t size)
{
	/* Whoever asks for much is about to fill it: spare it the page faults. */
	int populate = size > 1 << 16 ? MAP_POPULATE : 0;
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | populate,
		       -1, 0);

	if (p != MAP_FAILED && p)
		return p;
	shunt_failed_call = "mmap";
	return NULL;
}

void shunt_port_free(void *p, size_t size)
{
	if (p)
		(void)munmap(p, size);
}

/* ---------------------------------------------------------------- site arrays */

/* A freed array, linked through its own first element. */
struct free_array {
	struct free_array *next;
	size_t room;
};
_Static_assert(sizeof(struct free_array) <= sizeof(struct shunt_site), "fits");

/* Guarded by the update lock. */
static struct free_array *free_arrays;

struct shunt_site *shunt_sites_alloc(size_t n, size_t *room)
{
	size_t want = 4096 / sizeof(struct shunt_site);
	struct shunt_site *sites;

	for (struct free_array **p = &free_arrays; *p; p = &(*p)->next) {
		struct free_array *a = *p;

		if (a->room < n || a->room > 4 * n + want)
			continue;
		*p = a->next;
		*room = a->room;
		memset(a, 0, *room * sizeof(struct shunt_site));
		return (struct shunt_site *)a;
	}
	while (want < n)
		want *= 2;
	sites = shunt_port_alloc(want * sizeof(struct shunt_site));
	*room = sites ? want : 0;
	return sites;
}

/*
 * What the link overwrites are numbers of a site that no address leads to: its
 * table is withdrawn.
 */
void shunt_sites_free(struct shunt_site *sites, size_t room)
{
	struct free_array *a = (struct free_array *)sites;

	if (!sites)
		return;
	a->next = free_arrays;
	a->room = room;
	free_arrays = a;
}

/*
 * Retired mods, linked through fields of their first one that no trap handler reads: what a
 * late one still finds there is a mod. Guarded by the update lock.
 */
static struct shunt_mod *retired;

struct shunt_mod *shunt_mods_settle(struct shunt_mod *mods, size_t max)
{
	for (struct shunt_mod **p = &retired; *p; p = &(*p)->next) {
		struct shunt_mod *old = *p;

		if (old->nr_sites != max)
			continue;
		*p = old->next;
		memcpy(old, mods, max * sizeof(*mods));
		shunt_port_free(mods, max * sizeof(*mods));
		return old;
	}
	return mods;
}

void shunt_mods_retire(struct shunt_mod *mods, size_t max)
{
	mods->next = retired;
	mods->nr_sites = (uint32_t)max;
	retired = mods;
}

/*
 * Whether @page is wiped in a copy of the process: not before Linux 4.14, and not where a
 * filter refuses it, or answers 0 in place of the kernel. The kernel itself refuses it for shared
 * memory.
 */
static bool is_wiped_on_fork(void *page, size_t size)
{
	void *shared;
	bool is_refused;

	if (madvise(page, size, MADV_WIPEONFORK))
		return false;
	shared = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	is_refused = madvise(shared, size, MADV_WIPEONFORK) != 0;
	(void)munmap(shared, size);
	return is_refused;
}

/*
 * Made on first use, which may be in several threads at once, before any
 * constructor: the first to store its page wins.
 */
struct shunt_process *_Atomic shunt_process_page;
_Atomic bool shunt_process_is_wiped;

struct shunt_process *shunt_make_process(void)
{
	static struct shunt_process fallback;
	struct shunt_process *p = atomic_load_explicit(&shunt_process_page, memory_order_acquire);
	struct shunt_process *none = NULL;

	if (p)
		return p;
	p = shunt_port_alloc(sizeof(*p));
	if (p && !is_wiped_on_fork(p, sizeof(*p))) {
		shunt_port_free(p, sizeof(*p));
		p = NULL;
	}
	/* Pairs with the acquire load above and below. */
	if (atomic_compare_exchange_strong_explicit(&shunt_process_page, &none, p ? p : &fallback,
						    memory_order_acq_rel, memory_order_acquire)) {
		shunt_process_is_wiped = p != NULL;
		return p ? p : &fallback;
	}
	shunt_port_free(p, sizeof(*p));
	return none;
}
