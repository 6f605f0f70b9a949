/* SPDX-License-Identifier: MIT */
/*
 * What a pointer in a file's data will be once the file is loaded: what stands
 * there, or what a dynamic relocation makes of it. (In position-independent files
 * the pointer itself is mostly zero.)
 */
#ifndef SHUNT_TOOLS_POINTERS_H
#define SHUNT_TOOLS_POINTERS_H

#include "linux/elf/elf.h"

enum pointer_kind {
	POINTER_UNKNOWN, /* outside the file, or made at run time (an ifunc) */
	POINTER_ADDRESS, /* of something in this file: a link-time address */
	POINTER_SYMBOL,  /* whatever the dynamic linker finds under a name */
};

struct pointer {
	enum pointer_kind kind;
	uint64_t address;   /* a symbol: where this file defines it; 0: it does not */
	const char *symbol; /* in the image */
};

struct pointers {
	const struct shunt_elf *elf;
	struct pointer_reloc *relocs; /* sorted by address */
	size_t nr_relocs;
	bool position_independent;
};

/*
 * Read @elf's dynamic relocations. Free with pointers_close(), whatever it returns.
 *
 * Returns 0, -EINVAL where they are malformed, or -ENOMEM.
 */
int pointers_open(struct pointers *pointers, const struct shunt_elf *elf);
void pointers_close(struct pointers *pointers);

/* The pointer at @vaddr. */
struct pointer pointers_at(const struct pointers *pointers, uint64_t vaddr);

/* The NUL-terminated string that the pointer at @vaddr points to; NULL where it is none. */
const char *pointers_string(const struct pointers *pointers, uint64_t vaddr);

#endif
