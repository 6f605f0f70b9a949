/* SPDX-License-Identifier: MIT */
/* PT_DYNAMIC of a file (dynamic.h). How many symbols there are it says by what names them alone. */
#include "dynamic.h"

#include "linux/elf/elf_read.h"

/* PT_DYNAMIC's entries; NULL: there are none. */
static const uint8_t *entries_of(const struct shunt_elf *elf, uint64_t *n)
{
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);

		*n = ph.p_filesz / sizeof(Elf64_Dyn);
		if (ph.p_type == PT_DYNAMIC)
			return in_range(ph.p_offset, ph.p_filesz, elf->size)
				       ? elf->image + ph.p_offset
				       : NULL;
	}
	return NULL;
}

bool dynamic_is_there(const struct shunt_elf *elf)
{
	uint64_t n;

	return entries_of(elf, &n);
}

/* What the last entry of @tag says, which is what counts; 0: there is none. */
static uint64_t value_of(const struct shunt_elf *elf, int64_t tag)
{
	uint64_t n, value = 0;
	const uint8_t *entries = entries_of(elf, &n);

	for (uint64_t i = 0; entries && i < n; i++) {
		Elf64_Dyn entry;

		memcpy(&entry, entries + i * sizeof(entry), sizeof(entry));
		if (entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == tag)
			value = entry.d_un.d_val;
	}
	return value;
}

int dynamic_table(const struct shunt_elf *elf, int64_t tag, int64_t size_tag, const uint8_t **data,
		  uint64_t *size)
{
	*size = value_of(elf, size_tag);
	*data = *size ? shunt_elf_at(elf, value_of(elf, tag), *size) : NULL;
	return *size && !*data ? -EINVAL : 0;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The word number @i from @vaddr on. */
static bool load_word(const struct shunt_elf *elf, uint64_t vaddr, uint64_t i, uint32_t *word)
{
	const uint8_t *bytes = shunt_elf_at(elf, vaddr + i * sizeof(*word), sizeof(*word));

	if (bytes)
		memcpy(word, bytes, sizeof(*word));
	return bytes;
}

/* By DT_GNU_HASH, whose chains have the symbols that are exported: one behind the last of them. */
static uint64_t count_gnu(const struct shunt_elf *elf, uint64_t hash)
{
	uint32_t nr_buckets, first, bloom, word, last = 0;
	uint64_t buckets, chains, n;

	if (!load_word(elf, hash, 0, &nr_buckets) || !load_word(elf, hash, 1, &first) ||
	    !load_word(elf, hash, 2, &bloom))
		return 0;
	buckets = 4 + 2 * (uint64_t)bloom;
	chains = buckets + nr_buckets;
	for (uint64_t i = 0; i < nr_buckets && load_word(elf, hash, buckets + i, &word); i++)
		last = word > last ? word : last;
	if (last < first)
		return 0;
	for (n = last; load_word(elf, hash, chains + n - first, &word) && !(word & 1); n++)
		;
	return n + 1;
}

/* One behind the last that a relocation of the table names: of those that are imported. */
static uint64_t count_relocated(const struct shunt_elf *elf, int64_t tag, int64_t size_tag)
{
	const uint8_t *data;
	uint64_t size, n = 0;

	if (dynamic_table(elf, tag, size_tag, &data, &size))
		return 0;
	for (uint64_t i = 0; i < size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela rela;

		memcpy(&rela, data + i * sizeof(rela), sizeof(rela));
		n = larger(n, ELF64_R_SYM(rela.r_info) + 1);
	}
	return n;
}

static uint64_t count_symbols(const struct shunt_elf *elf)
{
	uint64_t hash = value_of(elf, DT_HASH), gnu = value_of(elf, DT_GNU_HASH);
	uint32_t n;

	if (hash && load_word(elf, hash, 1, &n))
		return n;
	return larger(gnu ? count_gnu(elf, gnu) : 0,
		      larger(count_relocated(elf, DT_RELA, DT_RELASZ),
			     count_relocated(elf, DT_JMPREL, DT_PLTRELSZ)));
}

void dynamic_open_symbols(struct shunt_elf *elf)
{
	struct shunt_elf_symtab tab = {.symbols = {.count = count_symbols(elf)}};
	const uint8_t *strings;
	uint64_t avail;

	if (elf->dynsym.section || !tab.symbols.count)
		return;
	tab.symbols.data = shunt_elf_mapped_at(elf, value_of(elf, DT_SYMTAB), &avail);
	if (tab.symbols.count > avail / sizeof(Elf64_Sym) ||
	    dynamic_table(elf, DT_STRTAB, DT_STRSZ, &strings, &tab.strings_size) ||
	    !tab.strings_size || strings[tab.strings_size - 1])
		return;
	tab.strings = (const char *)strings;
	elf->dynsym = tab;
}
