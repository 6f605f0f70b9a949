/* SPDX-License-Identifier: MIT */
/*
 * What the files of the ELF reader share: headers and symbols out of the image. They
 * are copied out with memcpy, as nothing says that they are aligned; ranges are compared
 * by subtraction, as a sum may wrap.
 *
 *	elf_open.c   headers, sections, symbols, build-id
 *	elf_ref.c    the references from text that the linker kept
 *	elf_dyn.c    the GOT slots that the dynamic linker fills
 *	elf_func.c   which function an address lies in
 *	elf_baked.c  the site table of a baked file
 *
 * The instructions at references, trampolines, PLT entries: arch/elf_code.h.
 */
#ifndef SHUNT_LINUX_ELF_READ_H
#define SHUNT_LINUX_ELF_READ_H

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "linux/elf/elf.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are read as they stand");

/* Whether @len bytes at @offset lie within @size. */
static inline bool in_range(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

static inline Elf64_Phdr load_segment(const struct shunt_elf *elf, uint64_t i)
{
	Elf64_Phdr ph;

	memcpy(&ph, elf->segments.data + i * sizeof(ph), sizeof(ph));
	return ph;
}

static inline Elf64_Shdr load_section(const struct shunt_elf *elf, uint64_t i)
{
	Elf64_Shdr sh;

	memcpy(&sh, elf->sections.data + i * sizeof(sh), sizeof(sh));
	return sh;
}

/* A prefix of names, ready to be compared with many of them by one load each. */
struct prefix {
	const char *text;
	size_t len;
	uint64_t word; /* its first 8 bytes, or as many as there are */
	uint64_t mask; /* of those bytes */
};

static inline struct prefix prefix_of(const char *text)
{
	struct prefix p = {.text = text, .len = strlen(text), .mask = UINT64_MAX};

	memcpy(&p.word, text, p.len < sizeof(p.word) ? p.len : sizeof(p.word));
	if (p.len < sizeof(p.word)) {
		p.mask = (UINT64_C(1) << (p.len * 8)) - 1;
	}
	return p;
}

/* Whether the name at @offset of @tab's strings is there and begins with @p. */
static inline bool has_prefix(const struct shunt_elf_symtab *tab, uint32_t offset,
			      const struct prefix *p)
{
	const char *name;
	uint64_t word;

	if (offset >= tab->strings_size) {
		return false;
	}
	name = tab->strings + offset;
	if (tab->strings_size - offset < sizeof(word)) {
		return strncmp(name, p->text, p->len) == 0;
	}
	memcpy(&word, name, sizeof(word));
	if (((word ^ p->word) & p->mask) != 0) {
		return false;
	}
	return p->len <= sizeof(word) || strncmp(name, p->text, p->len) == 0;
}

static inline uint32_t load_name_offset(const struct shunt_elf_symtab *tab, uint64_t i)
{
	uint32_t offset;

	memcpy(&offset, tab->symbols.data + i * sizeof(Elf64_Sym) + offsetof(Elf64_Sym, st_name),
	       sizeof(offset));
	return offset;
}

/* False where the name lies outside the strings. */
static inline bool load_symbol(const struct shunt_elf_symtab *tab, uint64_t i,
			       struct shunt_elf_sym *sym)
{
	Elf64_Sym raw;

	memcpy(&raw, tab->symbols.data + i * sizeof(raw), sizeof(raw));
	if (raw.st_name >= tab->strings_size) {
		return false;
	}
	*sym = (struct shunt_elf_sym){
		.name = tab->strings + raw.st_name,
		.value = raw.st_value,
		.size = raw.st_size,
		.index = (uint32_t)i,
		.shndx = raw.st_shndx,
		.type = ELF64_ST_TYPE(raw.st_info),
		.binding = ELF64_ST_BIND(raw.st_info),
		.other = raw.st_other,
		.undefined = raw.st_shndx == SHN_UNDEF,
	};
	return true;
}

/* Point @table at @count entries of @entry bytes at @offset. */
static inline int open_table(const struct shunt_elf *elf, struct shunt_elf_table *table,
			     uint64_t offset, uint64_t count, uint64_t entry)
{
	if (offset > elf->size || count > (elf->size - offset) / entry) {
		return -EINVAL;
	}
	*table = (struct shunt_elf_table){.data = elf->image + offset, .count = count};
	return 0;
}

/* elf_open.c: the header of the first section called @name. 0 or -ENOENT. */
int shunt_elf_section_header(const struct shunt_elf *elf, const char *name, Elf64_Shdr *header);

/* elf_open.c: the name of a section, which ends in the image; NULL: it has none. */
const char *shunt_elf_section_name(const struct shunt_elf *elf, const Elf64_Shdr *header);

/* elf_open.c: where the file begins in memory: p_vaddr of the first PT_LOAD; 0: there is none. */
uint64_t shunt_elf_first_load(const struct shunt_elf *elf);

/* elf_open.c: what the file maps from @vaddr on: the bytes, and how many there are. */
const uint8_t *shunt_elf_mapped_at(const struct shunt_elf *elf, uint64_t vaddr, uint64_t *avail);

#endif
