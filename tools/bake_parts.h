/* SPDX-License-Identifier: MIT */
/* What the files that bake an image (bake.h) ask of each other. */
#ifndef SHUNT_TOOLS_BAKE_PARTS_H
#define SHUNT_TOOLS_BAKE_PARTS_H

#include <elf.h>

#include "bake.h"
#include "inventory.h"
#include "linux/elf/baked.h"
#include "linux/elf/elf_read.h"

#define DROPPED 0 /* no section has this number */

struct bake {
	struct inventory inv;
	Elf64_Ehdr eh;
	Elf64_Shdr *sections; /* as they will be, by old number */
	uint32_t *number;     /* the new one, by old number; DROPPED */
	uint32_t nr_kept;     /* sections that stay, with section 0 */
	uint64_t loaded_end;  /* up to here the file stays as it is */
	uint8_t *out;
	uint64_t out_size, capacity;
	bool has_table_section;   /* a loaded section for the table, */
	Elf64_Shdr table_section; /* this one */
	struct bake_result *result;
};

/* bake_out.c: -EINVAL, with @why as the reason that the user is given. */
int bake_refuse(struct bake *b, const char *why);

/* bake_out.c: @size zeroed bytes at the end of the new image; NULL: no memory. */
uint8_t *bake_append(struct bake *b, uint64_t size, uint64_t align);

/* bake_out.c: where the @len bytes at @vaddr are in the new image; NULL: nowhere. */
uint8_t *bake_bytes(const struct bake *b, uint64_t vaddr, size_t len);

/* bake_entries.c: make entries of five nops one instruction. 0 or -ENOMEM. */
int bake_write_entries(struct bake *b);

/* bake_calls.c: write the direct forms of all sites whose target is known. */
void bake_write_direct_calls(struct bake *b);

/* bake_table.c: write the table; @sh gets its place. 0, -EINVAL or -ENOMEM. */
int bake_write_table(struct bake *b, Elf64_Shdr *sh);

#endif
