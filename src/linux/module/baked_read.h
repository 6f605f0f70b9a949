/* SPDX-License-Identifier: MIT */
/* The site table of a baked file (baked.c). */
#ifndef SHUNT_LINUX_BAKED_READ_H
#define SHUNT_LINUX_BAKED_READ_H

#include <shunt/module.h>

#include "core/key.h"
#include "core/site.h"
#include "linux/base/registry.h"
#include "linux/module/site_search.h"

/*
 * The table that `shunt bake` has put into the file in place of its
 * relocations. Fills in s->mods and s->bindings, and @table; the sites, which are many,
 * stay where they are until shunt_baked_load(). Each element of the table has two mods:
 * i, and where its direct and indirect calls go through different slots, nr_mods + i for
 * the indirect ones.
 *
 * Returns 0, -ENODATA where the file has no table, -EINVAL where it is malformed,
 * -ENOMEM. Update lock not held.
 */
int shunt_baked_open(struct shunt_site_search *s, struct shunt_baked_table *table);

/*
 * Read the sites into @array, which has room for table->nr_sites; returns how many
 * are good. @segments: the module's. The file must still be mapped.
 */
uint32_t shunt_baked_load(const struct shunt_baked_table *table,
			  const struct shunt_segments *segments, const struct shunt_mod *mods,
			  const struct shunt_bindings *bindings, struct shunt_site *array);

#endif
