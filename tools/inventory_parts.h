/* SPDX-License-Identifier: MIT */
/* What the files that make an inventory (inventory.h) ask of each other. */
#ifndef SHUNT_TOOLS_INVENTORY_PARTS_H
#define SHUNT_TOOLS_INVENTORY_PARTS_H

#include "inventory.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf_read.h"

/* The length of SHUNT_TRAMP_PREFIX, and of __SKT__ and __SKF__. */
#define PREFIX_LEN (sizeof(SHUNT_TRAMP_PREFIX) - 1)

/*
 * inventory_file.c: the records of @record bytes in the loaded section @name: where the first is in
 * memory, and how many; false, 0 and 0: there is no such section.
 */
bool inventory_find_array(const struct shunt_elf *elf, const char *name, size_t record,
			  uint64_t *vaddr, uint64_t *n);

/* inventory_file.c: whether it has sections of code, and the bytes of none of them. */
bool inventory_lacks_code(const struct inventory *inv);

/* inventory_file.c: whether a segment that is loaded has bytes beyond the end of the file. */
bool inventory_is_cut_off(const struct inventory *inv);

/* inventory_module.c: what the file registers with libshunt: its arrays, and one of its records. */
struct registered {
	uint64_t call_keys, nr_call_keys;
	uint64_t static_keys, nr_static_keys;
	uint64_t jumps;
};

/* False: it is not seen. Then *is_expected says whether it registers anything. */
bool inventory_find_registered(const struct inventory *inv, struct registered *it,
			       bool *is_expected);

/* inventory_file.c: the slot that the PLT entry at @vaddr jumps through; 0: it is none. */
uint64_t inventory_plt_slot(const struct inventory *inv, uint64_t vaddr);

/* inventory_file.c: where a call of @vaddr goes: there, or behind the linker's stubs. */
uint64_t inventory_behind_stubs(const struct inventory *inv, uint64_t vaddr);

/* ------------------------------------------------------------------- inventory_keys.c */

/* Add the keys that the file defines. 0 or -ENOMEM. */
int inventory_add_defined_keys(struct inventory *inv);

/* The index of the static call, or static key, at @vaddr; UINT32_MAX: none is there. */
uint32_t inventory_call_at(const struct inventory *inv, uint64_t vaddr);
uint32_t inventory_branch_at(const struct inventory *inv, uint64_t vaddr);

/* Whether @name is a static key's symbol: behind PREFIX_LEN bytes the key's name begins. */
bool inventory_is_key_symbol(const char *name);

/* The imported key of a name, added where it is new; UINT32_MAX: no memory. */
uint32_t inventory_import_key(struct inventory *inv, bool is_branch, const char *name, size_t len);
uint32_t inventory_import_element(struct inventory *inv, bool is_branch, const char *name,
				  size_t len, int element);

/* The key of the trampoline at @tramp; UINT32_MAX: it is none. */
uint32_t inventory_trampoline_key(const struct inventory *inv, uint64_t tramp);

/* Whether the dynamic linker fills a slot of @pointer with the trampoline of @key's name. */
bool inventory_is_bound_to(const struct pointer *pointer, const struct file_key *key);

/* Match imported keys with this file's own of that name, once all sites are known. */
void inventory_match_own_keys(struct inventory *inv);

/* ------------------------------------------- where sites come from: a file for each way */

/* Add @site. 0 or -ENOMEM. */
int inventory_add_site(struct inventory *inv, const struct file_site *site);

/* Add all sites of one source. 0, -EINVAL where it is malformed, or -ENOMEM. */
int inventory_read_relocations(struct inventory *inv);
int inventory_read_table(struct inventory *inv, const struct shunt_baked *table);
int inventory_read_branches(struct inventory *inv);

#endif
