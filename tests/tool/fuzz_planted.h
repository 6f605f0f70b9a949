/* SPDX-License-Identifier: MIT */
/*
 * The negative control of the fuzzer: read in front of each file of the ELF reader, it
 * makes the reader's check of a table's size wrong by one entry.
 */
#include "linux/elf/elf_read.h"

static inline int open_table_wrong(const struct shunt_elf *elf, struct shunt_elf_table *table,
				   uint64_t offset, uint64_t count, uint64_t entry)
{
	int ret = open_table(elf, table, offset, count ? count - 1 : 0, entry);

	if (!ret)
		table->count = count;
	return ret;
}

#define open_table open_table_wrong
