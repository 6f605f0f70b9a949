/* SPDX-License-Identifier: MIT */
/*
 * Pointers as the dynamic linker leaves them (pointers.h). Dynamic relocations are
 * found as it finds them, by PT_DYNAMIC; those of a static executable, which has none, through the
 * section headers.
 */
#include "pointers.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dynamic.h"

#ifndef SHT_RELR
#define SHT_RELR 19
#endif
#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR   36
#endif

struct pointer_reloc {
	uint64_t vaddr;
	struct pointer pointer;
};

static uint64_t load64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static struct pointer pointer_in_file(const struct shunt_elf *elf, uint64_t vaddr)
{
	const uint8_t *bytes = shunt_elf_at(elf, vaddr, 8);

	if (!bytes)
		return (struct pointer){.kind = POINTER_UNKNOWN};
	return (struct pointer){.kind = POINTER_ADDRESS, .address = load64(bytes)};
}

/* A dynamic symbol; POINTER_UNKNOWN where there is none. */
static struct pointer pointer_to_symbol(const struct shunt_elf *elf, uint64_t index)
{
	struct pointer pointer = {.kind = POINTER_UNKNOWN};
	Elf64_Sym sym;

	if (index >= elf->dynsym.symbols.count)
		return pointer;
	memcpy(&sym, elf->dynsym.symbols.data + index * sizeof(sym), sizeof(sym));
	if (sym.st_name >= elf->dynsym.strings_size)
		return pointer;
	pointer.kind = POINTER_SYMBOL;
	pointer.symbol = elf->dynsym.strings + sym.st_name;
	if (sym.st_shndx != SHN_UNDEF && sym.st_shndx != SHN_ABS && sym.st_shndx != SHN_COMMON &&
	    ELF64_ST_TYPE(sym.st_info) != STT_TLS)
		pointer.address = sym.st_value;
	return pointer;
}

static struct pointer relocated_pointer(const struct shunt_elf *elf, const Elf64_Rela *rela)
{
	const struct shunt_elf_cpu *cpu = elf->cpu;
	uint32_t type = (uint32_t)ELF64_R_TYPE(rela->r_info);
	struct pointer pointer = {.kind = POINTER_UNKNOWN};

	if (type == cpu->relative) {
		pointer.kind = POINTER_ADDRESS;
		pointer.address = (uint64_t)rela->r_addend;
	} else if ((type == cpu->absolute || type == cpu->glob_dat || type == cpu->jump_slot) &&
		   rela->r_addend == 0) {
		pointer = pointer_to_symbol(elf, ELF64_R_SYM(rela->r_info));
	}
	return pointer;
}

/*
 * Room for @n more. Each relocation is of a word of the file, so a file of so many
 * bytes has no more of them (a packed table could claim to).
 */
static int reserve(struct pointers *pointers, uint64_t n, size_t *max)
{
	size_t want = pointers->nr_relocs + (size_t)n;
	struct pointer_reloc *grown;

	if (n > pointers->elf->size || want > pointers->elf->size / 8 + 1)
		return -EINVAL;
	if (want <= *max)
		return 0;
	want = want < 2 * *max ? 2 * *max : want;
	grown = realloc(pointers->relocs, want * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	pointers->relocs = grown;
	*max = want;
	return 0;
}

static void add(struct pointers *pointers, uint64_t vaddr, struct pointer pointer)
{
	pointers->relocs[pointers->nr_relocs++] = (struct pointer_reloc){vaddr, pointer};
}

static int add_rela(struct pointers *pointers, const uint8_t *data, uint64_t size, size_t *max)
{
	uint64_t n = size / sizeof(Elf64_Rela);
	int ret = reserve(pointers, n, max);

	for (uint64_t i = 0; i < n && !ret; i++) {
		Elf64_Rela rela;

		memcpy(&rela, data + i * sizeof(rela), sizeof(rela));
		add(pointers, rela.r_offset, relocated_pointer(pointers->elf, &rela));
	}
	return ret;
}

/*
 * Packed RELATIVE relocations: an even entry is an address, an odd one a bitmap of
 * the 63 words that follow; what is to be relocated stands in the word itself.
 */
static int add_relr(struct pointers *pointers, const uint8_t *data, uint64_t size, size_t *max)
{
	uint64_t where = 0;

	for (uint64_t i = 0; i < size / 8; i++) {
		uint64_t entry = load64(data + i * 8);
		int ret = reserve(pointers, entry & 1 ? 63 : 1, max);

		if (ret)
			return ret;
		if (!(entry & 1)) {
			add(pointers, entry, pointer_in_file(pointers->elf, entry));
			where = entry + 8;
			continue;
		}
		for (unsigned bit = 0; bit < 63; bit++)
			if (entry >> (bit + 1) & 1)
				add(pointers, where + bit * 8,
				    pointer_in_file(pointers->elf, where + bit * 8));
		where += 63 * 8;
	}
	return 0;
}

static int compare(const void *left, const void *right)
{
	const struct pointer_reloc *a = left, *b = right;

	return (a->vaddr > b->vaddr) - (a->vaddr < b->vaddr);
}

static int add_dynamic(struct pointers *pointers, size_t *max)
{
	static const struct {
		int64_t tag, size_tag;
		int (*add)(struct pointers *pointers, const uint8_t *data, uint64_t size,
			   size_t *max);
	} tables[] = {{DT_RELA, DT_RELASZ, add_rela},
		      {DT_JMPREL, DT_PLTRELSZ, add_rela},
		      {DT_RELR, DT_RELRSZ, add_relr}};
	int ret = 0;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !ret; i++) {
		const uint8_t *data;
		uint64_t size;

		ret = dynamic_table(pointers->elf, tables[i].tag, tables[i].size_tag, &data, &size);
		if (!ret && size)
			ret = tables[i].add(pointers, data, size, max);
	}
	return ret;
}

static int add_sections(struct pointers *pointers, size_t *max)
{
	const struct shunt_elf *elf = pointers->elf;
	uint64_t budget = elf->size;
	int ret = 0;

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
			pointers, elf->image + sh.sh_offset, sh.sh_size, max);
	}
	return ret;
}

int pointers_open(struct pointers *pointers, const struct shunt_elf *elf)
{
	size_t max = 0;
	Elf64_Ehdr eh;
	int ret;

	memcpy(&eh, elf->image, sizeof(eh));
	*pointers = (struct pointers){.elf = elf, .position_independent = eh.e_type == ET_DYN};
	ret = dynamic_is_there(elf) ? add_dynamic(pointers, &max) : add_sections(pointers, &max);
	if (!ret && pointers->nr_relocs)
		qsort(pointers->relocs, pointers->nr_relocs, sizeof(pointers->relocs[0]), compare);
	return ret;
}

void pointers_close(struct pointers *pointers)
{
	free(pointers->relocs);
	*pointers = (struct pointers){0};
}

struct pointer pointers_at(const struct pointers *pointers, uint64_t vaddr)
{
	struct pointer_reloc wanted = {.vaddr = vaddr};
	const struct pointer_reloc *found = NULL;

	if (pointers->nr_relocs)
		found = bsearch(&wanted, pointers->relocs, pointers->nr_relocs, sizeof(wanted),
				compare);
	if (found)
		return found->pointer;
	/* A position-independent file has no address without a relocation. */
	if (pointers->position_independent)
		return (struct pointer){.kind = POINTER_UNKNOWN};
	return pointer_in_file(pointers->elf, vaddr);
}

const char *pointers_string(const struct pointers *pointers, uint64_t vaddr)
{
	struct pointer pointer = pointers_at(pointers, vaddr);
	const uint8_t *bytes;
	uint64_t rest;

	if (pointer.kind != POINTER_ADDRESS)
		return NULL;
	bytes = shunt_elf_at(pointers->elf, pointer.address, 1);
	if (!bytes)
		return NULL;
	rest = pointers->elf->size - (uint64_t)(bytes - pointers->elf->image);
	return memchr(bytes, '\0', rest < 4096 ? rest : 4096) ? (const char *)bytes : NULL;
}
