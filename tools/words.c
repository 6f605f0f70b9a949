/* SPDX-License-Identifier: MIT */
/*
 * Pointers as the dynamic linker leaves them (words.h). Dynamic relocations are
 * found through the section headers, as a static executable has some too, but no
 * PT_DYNAMIC.
 */
#include "words.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef SHT_RELR
#define SHT_RELR 19
#endif

struct word_reloc {
	uint64_t vaddr;
	struct word word;
};

static uint64_t load64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static struct word word_in_file(const struct shunt_elf *elf, uint64_t vaddr)
{
	const uint8_t *bytes = shunt_elf_at(elf, vaddr, 8);

	if (!bytes)
		return (struct word){.kind = WORD_UNKNOWN};
	return (struct word){.kind = WORD_ADDRESS, .address = load64(bytes)};
}

/* A dynamic symbol; WORD_UNKNOWN where there is none. */
static struct word word_of_symbol(const struct shunt_elf *elf, uint64_t index)
{
	struct word word = {.kind = WORD_UNKNOWN};
	Elf64_Sym sym;

	if (index >= elf->dynsym.symbols.count)
		return word;
	memcpy(&sym, elf->dynsym.symbols.data + index * sizeof(sym), sizeof(sym));
	if (sym.st_name >= elf->dynsym.strings_size)
		return word;
	word.kind = WORD_SYMBOL;
	word.symbol = elf->dynsym.strings + sym.st_name;
	word.address = sym.st_shndx == SHN_UNDEF ? 0 : sym.st_value;
	return word;
}

static struct word word_of(const struct shunt_elf *elf, const Elf64_Rela *rela)
{
	struct word word = {.kind = WORD_UNKNOWN};

	switch (ELF64_R_TYPE(rela->r_info)) {
	case R_X86_64_RELATIVE:
		word.kind = WORD_ADDRESS;
		word.address = (uint64_t)rela->r_addend;
		break;
	case R_X86_64_64:
	case R_X86_64_GLOB_DAT:
	case R_X86_64_JUMP_SLOT:
		if (rela->r_addend == 0)
			word = word_of_symbol(elf, ELF64_R_SYM(rela->r_info));
		break;
	default:
		break;
	}
	return word;
}

/*
 * Room for @n more. Each relocation is of a word of the file, so a file of so many
 * bytes has no more of them (a packed table could claim to).
 */
static int reserve(struct words *words, uint64_t n, size_t *max)
{
	size_t want = words->nr_relocs + (size_t)n;
	struct word_reloc *grown;

	if (n > words->elf->size || want > words->elf->size / 8 + 1)
		return -EINVAL;
	if (want <= *max)
		return 0;
	want = want < 2 * *max ? 2 * *max : want;
	grown = realloc(words->relocs, want * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	words->relocs = grown;
	*max = want;
	return 0;
}

static void add(struct words *words, uint64_t vaddr, struct word word)
{
	words->relocs[words->nr_relocs++] = (struct word_reloc){vaddr, word};
}

static int add_rela(struct words *words, const uint8_t *data, uint64_t size, size_t *max)
{
	uint64_t n = size / sizeof(Elf64_Rela);
	int ret = reserve(words, n, max);

	for (uint64_t i = 0; i < n && !ret; i++) {
		Elf64_Rela rela;

		memcpy(&rela, data + i * sizeof(rela), sizeof(rela));
		add(words, rela.r_offset, word_of(words->elf, &rela));
	}
	return ret;
}

/*
 * Packed RELATIVE relocations: an even entry is an address, an odd one a bitmap of
 * the 63 words that follow; what is to be relocated stands in the word itself.
 */
static int add_relr(struct words *words, const uint8_t *data, uint64_t size, size_t *max)
{
	uint64_t where = 0;

	for (uint64_t i = 0; i < size / 8; i++) {
		uint64_t entry = load64(data + i * 8);
		int ret = reserve(words, entry & 1 ? 63 : 1, max);

		if (ret)
			return ret;
		if (!(entry & 1)) {
			add(words, entry, word_in_file(words->elf, entry));
			where = entry + 8;
			continue;
		}
		for (unsigned bit = 0; bit < 63; bit++)
			if (entry >> (bit + 1) & 1)
				add(words, where + bit * 8,
				    word_in_file(words->elf, where + bit * 8));
		where += 63 * 8;
	}
	return 0;
}

static int compare(const void *left, const void *right)
{
	const struct word_reloc *a = left, *b = right;

	return (a->vaddr > b->vaddr) - (a->vaddr < b->vaddr);
}

int words_open(struct words *words, const struct shunt_elf *elf)
{
	uint64_t budget = elf->size;
	size_t max = 0;
	Elf64_Ehdr eh;
	int ret = 0;

	memcpy(&eh, elf->image, sizeof(eh));
	*words = (struct words){.elf = elf, .position_independent = eh.e_type == ET_DYN};
	for (uint64_t i = 1; i < elf->sections.count && !ret; i++) {
		Elf64_Shdr sh;

		memcpy(&sh, elf->sections.data + i * sizeof(sh), sizeof(sh));
		if (!(sh.sh_flags & SHF_ALLOC) ||
		    (sh.sh_type != SHT_RELA && sh.sh_type != SHT_RELR))
			continue;
		if (sh.sh_offset > elf->size || sh.sh_size > elf->size - sh.sh_offset ||
		    sh.sh_size > budget)
			return -EINVAL;
		budget -= sh.sh_size;
		ret = (sh.sh_type == SHT_RELA ? add_rela : add_relr)(
			words, elf->image + sh.sh_offset, sh.sh_size, &max);
	}
	if (!ret && words->nr_relocs)
		qsort(words->relocs, words->nr_relocs, sizeof(words->relocs[0]), compare);
	return ret;
}

void words_close(struct words *words)
{
	free(words->relocs);
	*words = (struct words){0};
}

struct word words_at(const struct words *words, uint64_t vaddr)
{
	struct word_reloc wanted = {.vaddr = vaddr};
	const struct word_reloc *found = NULL;

	if (words->nr_relocs)
		found = bsearch(&wanted, words->relocs, words->nr_relocs, sizeof(wanted), compare);
	if (found)
		return found->word;
	/* A position-independent file has no address without a relocation. */
	if (words->position_independent)
		return (struct word){.kind = WORD_UNKNOWN};
	return word_in_file(words->elf, vaddr);
}

const char *words_string(const struct words *words, uint64_t vaddr)
{
	struct word word = words_at(words, vaddr);
	const uint8_t *bytes;
	uint64_t rest;

	if (word.kind != WORD_ADDRESS)
		return NULL;
	bytes = shunt_elf_at(words->elf, word.address, 1);
	if (!bytes)
		return NULL;
	rest = words->elf->size - (uint64_t)(bytes - words->elf->image);
	return memchr(bytes, '\0', rest < 4096 ? rest : 4096) ? (const char *)bytes : NULL;
}
