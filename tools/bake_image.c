/* SPDX-License-Identifier: MIT */
/*
 * The core of `shunt bake` (bake.h): the image of an ELF file becomes the image of
 * the baked one.
 *
 * Everything that is loaded keeps its place in the file; what lies behind it, the
 * sections that are not loaded, is laid out anew without the relocations and with
 * the site table, and the section headers come last. A file that is not made like
 * that is refused.
 */
#include "bake_parts.h"

#include <stdlib.h>

#include "site_form.h"

static uint64_t nr_sections(const struct bake *b)
{
	return b->inv.elf.sections.count;
}

/* ---------------------------------------------------------- what is in the file */

static bool in_file(const struct bake *b, uint64_t offset, uint64_t size)
{
	return offset <= b->inv.elf.size && size <= b->inv.elf.size - offset;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Static relocations, which the linker kept; .rela.dyn and .rela.plt are loaded. */
static bool is_dropped(const Elf64_Shdr *sh)
{
	return (sh->sh_type == SHT_RELA || sh->sh_type == SHT_REL) && !(sh->sh_flags & SHF_ALLOC);
}

/* Find where that ends which must stay in its place. */
static int find_loaded_end(struct bake *b)
{
	const struct shunt_elf *elf = &b->inv.elf;

	b->loaded_end = sizeof(b->eh);
	if (elf->segments.count)
		b->loaded_end = larger(b->loaded_end,
				       b->eh.e_phoff + elf->segments.count * sizeof(Elf64_Phdr));
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf->segments.data + i * sizeof(ph), sizeof(ph));
		if (!in_file(b, ph.p_offset, ph.p_filesz))
			return bake_refuse(b,
					   "cut off: a segment reaches beyond the end of the file");
		b->loaded_end = larger(b->loaded_end, ph.p_offset + ph.p_filesz);
	}
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		const Elf64_Shdr *sh = &b->sections[i];

		if (sh->sh_type == SHT_NOBITS || sh->sh_type == SHT_NULL)
			continue;
		if (!in_file(b, sh->sh_offset, sh->sh_size))
			return bake_refuse(b,
					   "cut off: a section reaches beyond the end of the file");
		if (sh->sh_flags & SHF_ALLOC)
			b->loaded_end = larger(b->loaded_end, sh->sh_offset + sh->sh_size);
	}
	return 0;
}

static void cover(uint8_t *covered, uint64_t offset, uint64_t size)
{
	memset(covered + offset, 1, size);
}

/*
 * What no header tells of is lost where sections move: an archive that somebody has
 * appended, a word between two sections. Zeros are padding.
 */
static int check_nothing_is_lost(struct bake *b)
{
	const uint8_t *image = b->inv.elf.image;
	uint8_t *covered = calloc(b->inv.elf.size, 1);
	int ret = 0;

	if (!covered)
		return -ENOMEM;
	cover(covered, 0, b->loaded_end);
	cover(covered, b->eh.e_shoff, nr_sections(b) * sizeof(Elf64_Shdr));
	for (uint64_t i = 1; i < nr_sections(b); i++)
		if (b->sections[i].sh_type != SHT_NOBITS && b->sections[i].sh_type != SHT_NULL)
			cover(covered, b->sections[i].sh_offset, b->sections[i].sh_size);
	for (uint64_t i = 0; i < b->inv.elf.size && !ret; i++)
		if (!covered[i] && image[i])
			ret = bake_refuse(b, "has data behind or between its sections, which would "
					     "be lost");
	free(covered);
	return ret;
}

static int read_headers(struct bake *b)
{
	const struct shunt_elf *elf = &b->inv.elf;
	uint64_t n = elf->sections.count;

	memcpy(&b->eh, elf->image, sizeof(b->eh));
	if (b->eh.e_shnum == 0 || n >= SHN_LORESERVE - 1)
		return bake_refuse(b, "has too many sections");
	if (b->eh.e_shstrndx == SHN_UNDEF || b->eh.e_shstrndx >= n)
		return bake_refuse(b, "has sections without names");
	b->sections = calloc(n, sizeof(b->sections[0]));
	b->number = calloc(n, sizeof(b->number[0]));
	if (!b->sections || !b->number)
		return -ENOMEM;
	memcpy(b->sections, elf->sections.data, n * sizeof(b->sections[0]));
	b->nr_kept = 1;
	for (uint64_t i = 1; i < n; i++)
		if (!is_dropped(&b->sections[i]))
			b->number[i] = b->nr_kept++;
	if (b->number[b->eh.e_shstrndx] == DROPPED ||
	    b->sections[b->eh.e_shstrndx].sh_type != SHT_STRTAB ||
	    b->sections[b->eh.e_shstrndx].sh_flags & SHF_ALLOC)
		return bake_refuse(b, "has no table of section names");
	return 0;
}

/* -------------------------------------------------------- the sections in their new places */

static bool is_moved(const struct bake *b, const Elf64_Shdr *sh)
{
	return sh->sh_type != SHT_NOBITS && sh->sh_type != SHT_NULL &&
	       !(sh->sh_flags & SHF_ALLOC) && sh->sh_offset + sh->sh_size > b->loaded_end;
}

/* Move section @i behind what is there; its string table gets the new section's name. */
static int move_section(struct bake *b, uint64_t i, uint64_t *budget)
{
	static const char name[] = SHUNT_BAKED_SECTION;
	Elf64_Shdr *sh = &b->sections[i];
	uint64_t align = sh->sh_addralign ? sh->sh_addralign : 1;
	uint64_t size = sh->sh_size;
	uint8_t *to;

	if (align & (align - 1) || align > 65536)
		return bake_refuse(b, "a section has an odd alignment");
	if (sh->sh_offset < b->loaded_end && i != b->eh.e_shstrndx)
		return bake_refuse(b, "a section lies half within what is loaded");
	/* Sections that overlap could make a huge file of a small one. */
	if (size > *budget)
		return bake_refuse(b, "sections overlap");
	*budget -= size;
	if (i == b->eh.e_shstrndx)
		size += sizeof(name);
	to = bake_append(b, size, align);
	if (!to)
		return -ENOMEM;
	memcpy(to, b->inv.elf.image + sh->sh_offset, sh->sh_size);
	if (i == b->eh.e_shstrndx)
		memcpy(to + sh->sh_size, name, sizeof(name));
	sh->sh_offset = (uint64_t)(to - b->out);
	sh->sh_size = size;
	return 0;
}

static int write_sections(struct bake *b)
{
	uint64_t budget = b->inv.elf.size;

	b->capacity = b->inv.elf.size + 4096;
	b->out = calloc(b->capacity, 1);
	if (!b->out)
		return -ENOMEM;
	memcpy(b->out, b->inv.elf.image, b->loaded_end);
	b->out_size = b->loaded_end;
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		int ret;

		if (b->number[i] == DROPPED ||
		    (!is_moved(b, &b->sections[i]) && i != b->eh.e_shstrndx))
			continue;
		ret = move_section(b, i, &budget);
		if (ret)
			return ret;
	}
	return 0;
}

static uint32_t new_number(const struct bake *b, uint32_t old)
{
	return old < nr_sections(b) ? b->number[old] : old;
}

/* In the symbols of one table, which may be loaded and then is changed in its place. */
static int renumber_symbols(struct bake *b, const Elf64_Shdr *table)
{
	for (uint64_t i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
		uint8_t *at = b->out + table->sh_offset + i * sizeof(Elf64_Sym);
		uint32_t number;
		Elf64_Sym sym;

		memcpy(&sym, at, sizeof(sym));
		if (sym.st_shndx == SHN_XINDEX)
			return bake_refuse(b, "has too many sections");
		if (sym.st_shndx == SHN_UNDEF || sym.st_shndx >= SHN_LORESERVE)
			continue;
		number = new_number(b, sym.st_shndx);
		sym.st_shndx = number == DROPPED ? SHN_ABS : (uint16_t)number;
		memcpy(at, &sym, sizeof(sym));
	}
	return 0;
}

static int renumber(struct bake *b)
{
	for (uint64_t i = 1; i < nr_sections(b); i++) {
		Elf64_Shdr *sh = &b->sections[i];
		int ret;

		if (b->number[i] == DROPPED)
			continue;
		if (sh->sh_type == SHT_SYMTAB || sh->sh_type == SHT_DYNSYM) {
			ret = renumber_symbols(b, sh);
			if (ret)
				return ret;
		}
		sh->sh_link = new_number(b, sh->sh_link);
		if (sh->sh_flags & SHF_INFO_LINK || sh->sh_type == SHT_RELA ||
		    sh->sh_type == SHT_REL)
			sh->sh_info = new_number(b, sh->sh_info);
	}
	return 0;
}

/* The section headers, those that stay and @table's, if it is new; then the ELF header. */
static int write_headers(struct bake *b, const Elf64_Shdr *table)
{
	uint32_t n = b->nr_kept + !b->has_table_section;
	uint8_t *to = bake_append(b, n * sizeof(*table), 8);

	if (!to)
		return -ENOMEM;
	b->eh.e_shoff = (uint64_t)(to - b->out);
	b->eh.e_shnum = (uint16_t)n;
	b->eh.e_shstrndx = (uint16_t)b->number[b->eh.e_shstrndx];
	memcpy(to, &b->sections[0], sizeof(*table));
	for (uint64_t i = 1; i < nr_sections(b); i++)
		if (b->number[i] != DROPPED)
			memcpy(to + b->number[i] * sizeof(*table), &b->sections[i], sizeof(*table));
	if (!b->has_table_section)
		memcpy(to + b->nr_kept * sizeof(*table), table, sizeof(*table));
	memcpy(b->out, &b->eh, sizeof(b->eh));
	return 0;
}

/* ------------------------------------------------------------------- the whole */

static int bake(struct bake *b)
{
	Elf64_Shdr table = {.sh_type = SHT_PROGBITS, .sh_addralign = 8};
	int ret = read_headers(b);

	/* It is loaded, and nothing has been written into it yet, or the file would be baked. */
	b->has_table_section =
		!shunt_elf_section_header(&b->inv.elf, SHUNT_BAKED_SECTION, &b->table_section);
	if (!ret)
		ret = find_loaded_end(b);
	if (!ret)
		ret = check_nothing_is_lost(b);
	if (ret)
		return ret;
	table.sh_name = (uint32_t)b->sections[b->eh.e_shstrndx].sh_size;
	ret = write_sections(b);
	if (!ret)
		ret = renumber(b);
	if (ret)
		return ret;
	bake_write_direct_calls(b);
	ret = bake_write_table(b, &table);
	if (!ret)
		ret = bake_write_entries(b);
	return ret ? ret : write_headers(b, &table);
}

/* Those of other modules' keys by the relocations, or by what the dynamic linker binds. */
static bool has_calls(const struct inventory *inv)
{
	const struct shunt_elf_symtab *tab = &inv->elf.dynsym;

	for (size_t i = 0; i < inv->keys.n; i++)
		if (!inventory_key(inv, i)->is_branch)
			return true;
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_name < tab->strings_size &&
		    !strncmp(tab->strings + sym.st_name, SHUNT_TRAMP_PREFIX,
			     strlen(SHUNT_TRAMP_PREFIX)))
			return true;
	}
	return inv->nr_call_keys;
}

/* Count what is no site. */
static void count_refs(struct bake *b)
{
	for (size_t i = 0; i < b->inv.refs.n; i++) {
		if (inventory_key(&b->inv, inventory_ref(&b->inv, i)->key)->is_branch)
			b->result->branches++;
		else
			b->result->refs++;
	}
}

/* A file without static calls has no table: it stays as it is, but for its entries. */
static int bake_entries_alone(struct bake *b)
{
	int ret;

	b->out_size = b->capacity = b->inv.elf.size;
	b->out = malloc(b->out_size);
	if (!b->out)
		return -ENOMEM;
	memcpy(b->out, b->inv.elf.image, b->out_size);
	ret = bake_write_entries(b);
	if (!ret && b->result->entries)
		ret = read_headers(b);
	if (!ret && b->result->entries)
		ret = find_loaded_end(b); /* it is whole */
	return ret;
}

static bool sites_are_as_baked(const struct inventory *inv)
{
	for (size_t i = 0; i < inv->sites.n; i++)
		if (!inventory_key(inv, inventory_site(inv, i)->key)->is_branch &&
		    !site_is_as_baked(inv, inventory_site(inv, i)))
			return false;
	return true;
}

/* Whether what came out reads back as what was meant: a last look before it is used. */
static int check_result(const struct bake *b, bool has_table)
{
	struct inventory again;
	int ret = inventory_open(&again, b->out, b->out_size);

	if (!ret && (again.baked != has_table || again.sites.n != b->inv.sites.n ||
		     again.refs.n != b->inv.refs.n || (has_table && !sites_are_as_baked(&again))))
		ret = -EINVAL;
	inventory_close(&again);
	return ret;
}

int shunt_bake(const void *in, size_t size, void **out, size_t *out_size,
	       struct bake_result *result)
{
	struct bake b = {.result = result};
	bool has_table;
	int ret;

	*result = (struct bake_result){0};
	*out = NULL;
	ret = inventory_open(&b.inv, in, size);
	if (!ret && b.inv.rearranged) {
		result->why = b.inv.rearranged;
		ret = -EINVAL;
	} else if (!ret && b.inv.baked) {
		result->why = "is baked already";
		ret = -EALREADY;
	} else if (ret) {
		result->why = b.inv.why;
	}
	has_table = b.inv.lack == SHUNT_ELF_LACKS_NOTHING;
	count_refs(&b);
	if (!ret && !has_table && !has_calls(&b.inv))
		ret = bake_entries_alone(&b);
	if (!ret && !has_table && !result->entries) {
		result->nothing = !has_calls(&b.inv) && !inventory_why_nameless(&b.inv);
		result->why = result->nothing ? "there is nothing to bake in it: no static call, "
						"and no function's entry of five nops"
					      : inventory_why_unknown(&b.inv);
		ret = -ENODATA;
	}
	if (!ret && has_table)
		ret = bake(&b);
	if (!ret)
		ret = check_result(&b, has_table);
	inventory_close(&b.inv);
	free(b.sections);
	free(b.number);
	if (ret) {
		free(b.out);
		return ret;
	}
	*out = b.out;
	*out_size = b.out_size;
	return 0;
}
