/* SPDX-License-Identifier: MIT */
/* Finding the sites of a module (scan.c), for the record of the module (module.c). */
#ifndef SHUNT_LINUX_SCAN_H
#define SHUNT_LINUX_SCAN_H

#include <shunt/module.h>

#include "linux/module/search.h"

/*
 * Find the sites of static calls by the relocations of s->elf, or of static branches
 * by the module's records: fills in mods, sites and base.
 *
 * Returns 0, -ENOMEM, -ENODATA (no relocations) or -EINVAL (a malformed file); after
 * an error there is nothing to free. Update lock not held.
 */
int shunt_scan_calls(struct shunt_scan *s);
int shunt_scan_branches(struct shunt_scan *s);

void shunt_scan_free(struct shunt_scan *s);

#endif
