/* SPDX-License-Identifier: MIT */
/* Finding the sites of a module (find_sites.c), for the record of the module (module.c). */
#ifndef SHUNT_LINUX_FIND_SITES_H
#define SHUNT_LINUX_FIND_SITES_H

#include <shunt/module.h>

#include "linux/module/site_search.h"

/*
 * Find the sites of static calls by the relocations of s->elf, or of static branches
 * by the module's records: fills in mods, sites and base.
 *
 * Returns 0, -ENOMEM, -ENODATA (no relocations) or -EINVAL (a malformed file); after
 * an error there is nothing to free. Update lock not held.
 */
int shunt_find_call_sites(struct shunt_site_search *s);
int shunt_find_branch_sites(struct shunt_site_search *s);

void shunt_site_search_free(struct shunt_site_search *s);

#endif
