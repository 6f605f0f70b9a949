/* SPDX-License-Identifier: MIT */
/*
 * Arrays that a trap handler may be reading when they are not needed any more: they are never
 * given back to the system.
 */
#include <string.h>

#include <shunt/port.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/module/arrays.h"

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
