/* SPDX-License-Identifier: MIT */
/*
 * What the dynamic linker reads of a file: where PT_DYNAMIC says that its symbols and relocations
 * are. For files whose section headers are gone, or say something else.
 */
#ifndef SHUNT_TOOLS_DYNAMIC_H
#define SHUNT_TOOLS_DYNAMIC_H

#include "linux/elf/elf.h"

/* Whether the file has a dynamic section; a static executable that is not PIE has none. */
bool dynamic_is_there(const struct shunt_elf *elf);

/*
 * The table whose address has @tag, and whose size in bytes has @size_tag; 0 bytes: there is none.
 * Returns 0, or -EINVAL where the file does not hold it.
 */
int dynamic_table(const struct shunt_elf *elf, int64_t tag, int64_t size_tag, const uint8_t **data,
		  uint64_t *size) __attribute__((warn_unused_result));

/* Have @elf->dynsym be the symbols that PT_DYNAMIC leads to, where no section header does. */
void dynamic_open_symbols(struct shunt_elf *elf);

#endif
