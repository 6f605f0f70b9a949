/* SPDX-License-Identifier: MIT */
/*
 * An ELF file as it lies on disk: its symbols, and its bytes by address.
 */
#ifndef CLOSURE_IMAGE_H
#define CLOSURE_IMAGE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
	const char *base;
	size_t size;
	const Elf64_Shdr *sections;
	size_t nr_sections;
	const char *section_names;
	const Elf64_Sym *symbols;
	size_t nr_symbols;
	const char *names;
};

/* False where the file cannot be read or has no symbols. */
bool image_open(struct image *image, const char *path);

const char *image_name(const struct image *image, const Elf64_Sym *sym);

/* The @len bytes at @addr; NULL where the file has none. */
const void *image_at(const struct image *image, uint64_t addr, size_t len);

/* The name of the section that @addr is in; "" where there is none. */
const char *image_section(const struct image *image, uint64_t addr);

/* The function, or the object, that @addr is in; NULL: none. */
const Elf64_Sym *image_symbol(const struct image *image, uint64_t addr, unsigned type);

/*
 * The symbol named @name, of a source file named @file if that is not NULL (local
 * symbols only); the next one behind @after.
 */
const Elf64_Sym *image_find(const struct image *image, const char *file, const char *name,
			    const Elf64_Sym *after);

/* The name of the symbol that the word at @slot is relocated to; NULL: none. */
const char *image_import(const struct image *image, uint64_t slot);

#endif
