/* SPDX-License-Identifier: MIT */
/* Memory that trap handlers read (arrays.c). */
#ifndef SHUNT_LINUX_ARRAYS_H
#define SHUNT_LINUX_ARRAYS_H

#include "core/key.h"
#include "core/site.h"

/*
 * An array of at least @n sites, zeroed; *room tells how many. It never
 * goes back to the system, because a trap handler may be reading it: freed arrays
 * become site arrays again. Update lock held.
 */
struct shunt_site *shunt_sites_alloc(size_t n, size_t *room);
void shunt_sites_free(struct shunt_site *sites, size_t room);

/*
 * The same for the mods of a module, an array of @max elements of a
 * shunt_vector: where it is to be from now on; and that it is not needed any more. Update
 * lock held.
 */
struct shunt_mod *shunt_mods_settle(struct shunt_mod *mods, size_t max);
void shunt_mods_retire(struct shunt_mod *mods, size_t max);

#endif
