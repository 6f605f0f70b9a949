/* SPDX-License-Identifier: MIT */
/*
 * What a pointer in a file's data will be once the file is loaded: what stands
 * there, or what a dynamic relocation makes of it. (In position-independent files
 * the pointer itself is mostly zero.)
 */
#ifndef SHUNT_TOOLS_WORDS_H
#define SHUNT_TOOLS_WORDS_H

#include "linux/elf/elf.h"

enum word_kind {
	WORD_UNKNOWN, /* outside the file, or made at run time (an ifunc) */
	WORD_ADDRESS, /* of something in this file: a link-time address */
	WORD_SYMBOL,  /* whatever the dynamic linker finds under a name */
};

struct word {
	enum word_kind kind;
	uint64_t address;   /* a symbol: where this file defines it; 0: it does not */
	const char *symbol; /* in the image */
};

struct words {
	const struct shunt_elf *elf;
	struct word_reloc *relocs; /* sorted by address */
	size_t nr_relocs;
	bool position_independent;
};

/*
 * Read @elf's dynamic relocations. Free with words_close(), whatever it returns.
 *
 * Returns 0, -EINVAL where they are malformed, or -ENOMEM.
 */
int words_open(struct words *words, const struct shunt_elf *elf);
void words_close(struct words *words);

/* The pointer at @vaddr. */
struct word words_at(const struct words *words, uint64_t vaddr);

/* The NUL-terminated string that the pointer at @vaddr points to; NULL where it is none. */
const char *words_string(const struct words *words, uint64_t vaddr);

#endif
