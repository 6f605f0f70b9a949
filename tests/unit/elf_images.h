/* SPDX-License-Identifier: MIT */
/* Files for the tests of the ELF reader: those that elf_fixtures.sh has built, and made ones. */
#ifndef TESTS_UNIT_ELF_IMAGES_H
#define TESTS_UNIT_ELF_IMAGES_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#include "linux/elf/elf.h"

#define PREFIX "__SCT__"

/* Bytes that end where a page begins that cannot be read. */
struct image {
	uint8_t *bytes;
	size_t size;
	uint8_t *map;
	size_t map_size;
};

struct image image_new(const void *bytes, size_t size);
struct image image_read(const char *path);
void image_free(struct image *image);

struct fixture {
	char name[64];
	char lack[16];
	char form[16];
	char trampolines[16];
	int references;
	char build_id[64];
};

/* Where they are; NULL: what needs them is skipped. */
extern const char *fixture_dir;

/* Call @fn for each line of the manifest. */
void for_each_fixture(void (*fn)(const struct fixture *fixture, struct image *image));
enum shunt_elf_lack expected_lack(const struct fixture *fixture);

/* A file of a header, text, symbols, strings and relocations of the text. */
struct made {
	Elf64_Ehdr *eh;
	Elf64_Shdr *sections;
	Elf64_Sym *symbols;
	char *strings;
	Elf64_Rela *relas;
	uint8_t *bytes;
	size_t size;
	size_t nsymbols;
	size_t nrelas;
};

enum { MADE_TEXT = 1, MADE_SYMTAB, MADE_STRTAB, MADE_RELA, MADE_SECTIONS };

#define MADE_NAME 16 /* bytes of strings for each symbol */
#define MADE_BASE 0x1000

struct made made_new(size_t nsymbols, size_t nrelas, size_t text);
void made_symbol(struct made *made, size_t i, const char *name, uint64_t value, uint64_t size);
void made_rela(struct made *made, size_t i, size_t symbol, uint64_t at);
struct made made_small(void);

/* The same numbers in each run. */
uint64_t random_below(uint64_t limit);

/* For shunt_elf_for_each_ref(), which count in *@arg: an int, and 42 at the third; a size_t. */
int stop_at_third(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym);
int count_only(void *arg, const struct shunt_elf_ref *ref, const struct shunt_elf_sym *sym);

#endif
