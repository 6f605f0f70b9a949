/* SPDX-License-Identifier: MIT */
/*
 * The control of tool/damaged_table: baked.c, but what a table says of keys, trampolines, slots and
 * the places of sites is believed.
 */
#include "core/key.h"
#include "core/site.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf.h"
#include "linux/module/baked_read.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/module/site_search.h"
#include "linux/module/tramp.h"

#define shunt_segment_has(segments, flags, addr, len) ((void)(segments), (void)(addr), true)
#define shunt_baked_read_site(table, i, site)                                        \
	((void)memcpy(site, (const uint8_t *)(table)->sites + (i) * sizeof(*(site)), \
		      sizeof(*(site))),                                              \
	 0)
#define shunt_is_own_key(module, key)      ((void)(module), (void)(key), true)
#define shunt_own_tramp_key(scan, tramp)   ((void)(scan), mod.key)
#define shunt_slot_holds(scan, slot, key)  ((void)(scan), true)
#define shunt_is_slot_of(scan, slot, name) ((void)(scan), (void)(name), 1)

#include "linux/module/baked.c" /* NOLINT(bugprone-suspicious-include) */
