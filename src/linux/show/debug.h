/* SPDX-License-Identifier: MIT */
/*
 * The table for debuggers (debug.c). Its layout is what a script relies on.
 */
#ifndef SHUNT_LINUX_DEBUG_H
#define SHUNT_LINUX_DEBUG_H

#include <stdint.h>

struct shunt_debug_entry {
	char name[40];
	uint64_t value;
};

struct shunt_debug_table {
	char magic[8]; /* "SHUNTDBG", without a 0 */
	uint32_t version;
	uint32_t nr_entries;
	struct shunt_debug_entry entries[89];
};

extern struct shunt_debug_table shunt_debug_table;

#endif
