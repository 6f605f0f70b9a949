/* SPDX-License-Identifier: MIT */
/* The ELF reader: references from text, by the relocations that -Wl,--emit-relocs keeps. */
#include "linux/elf/elf_read.h"

/*
 * The symbols that have the prefix, by the low bits of their index: exact for a
 * table of up to 8 Ki symbols, a filter before the name itself for a larger
 * one. It keeps the names out of the loop over the relocations. (On the stack: 1 KiB.)
 */
#define FILTER_BITS 8192U

struct filter {
	uint64_t words[FILTER_BITS / 64];
};

static void filter_build(struct filter *filter, const struct shunt_elf_symtab *tab,
			 const struct prefix *p)
{
	memset(filter, 0, sizeof(*filter));
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		if (has_prefix(tab, load_name_offset(tab, i), p)) {
			filter->words[i % FILTER_BITS / 64] |= UINT64_C(1) << (i % 64);
		}
	}
}

static bool filter_has(const struct filter *filter, uint32_t i)
{
	return (filter->words[i % FILTER_BITS / 64] >> (i % 64) & 1) != 0;
}

/*
 * Whether @rela holds static relocations of text, and if so, of which section.
 * .rela.dyn and .rela.plt are SHF_ALLOC and link to .dynsym or to nothing.
 */
static bool relocates_text(const struct shunt_elf *elf, const Elf64_Shdr *rela, Elf64_Shdr *text)
{
	if (rela->sh_type != SHT_RELA || (rela->sh_flags & SHF_ALLOC) != 0 ||
	    rela->sh_link != elf->symtab.section || rela->sh_info == SHN_UNDEF ||
	    rela->sh_info >= elf->sections.count) {
		return false;
	}
	*text = load_section(elf, rela->sh_info);
	return (text->sh_flags & SHF_ALLOC) != 0 && (text->sh_flags & SHF_EXECINSTR) != 0;
}

/* One walk over the references to the symbols with a prefix. */
struct ref_walk {
	const struct shunt_elf *elf;
	struct prefix prefix;
	shunt_elf_ref_fn fn;
	void *arg;
	struct filter filter;
};

/* Report @rela, which passed the filter, if it does have the prefix. */
static int visit_reference(const struct ref_walk *walk, const Elf64_Shdr *text,
			   const Elf64_Rela *rela)
{
	const struct shunt_elf_symtab *tab = &walk->elf->symtab;
	uint64_t offset = rela->r_offset - text->sh_addr;
	struct shunt_elf_ref ref = {
		.field = rela->r_offset,
		.addend = rela->r_addend,
		.type = (uint32_t)ELF64_R_TYPE(rela->r_info),
		.sym = (uint32_t)ELF64_R_SYM(rela->r_info),
		.before = offset,
	};
	struct shunt_elf_sym sym;

	if (ref.sym >= tab->symbols.count) {
		return -EINVAL;
	}
	if (!has_prefix(tab, load_name_offset(tab, ref.sym), &walk->prefix) ||
	    !load_symbol(tab, ref.sym, &sym)) {
		return 0;
	}
	if (rela->r_offset < text->sh_addr || !in_range(offset, sizeof(uint32_t), text->sh_size)) {
		return -EINVAL;
	}
	ref.after = text->sh_size - offset;
	if (text->sh_type != SHT_NOBITS) {
		ref.bytes = walk->elf->image + text->sh_offset + offset;
	}
	return walk->fn(walk->arg, &ref, &sym);
}

static int visit_section(const struct ref_walk *walk, const Elf64_Shdr *text,
			 const struct shunt_elf_table *relas)
{
	for (uint64_t i = 0; i < relas->count; i++) {
		Elf64_Rela rela;
		int ret;

		memcpy(&rela, relas->data + i * sizeof(rela), sizeof(rela));
		if (!shunt_elf_is_ref(walk->elf->cpu, (uint32_t)ELF64_R_TYPE(rela.r_info)) ||
		    !filter_has(&walk->filter, (uint32_t)ELF64_R_SYM(rela.r_info))) {
			continue;
		}
		ret = visit_reference(walk, text, &rela);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

int shunt_elf_for_each_ref(const struct shunt_elf *elf, const char *prefix, shunt_elf_ref_fn fn,
			   void *arg)
{
	struct ref_walk walk; /* the filter in it is filled where the first section asks for it */
	uint64_t budget = elf->size; /* sections that overlap would make the walk quadratic */
	bool found = false;

	for (uint64_t i = 1; elf->symtab.section != 0 && i < elf->sections.count; i++) {
		Elf64_Shdr sh = load_section(elf, i);
		struct shunt_elf_table relas;
		Elf64_Shdr text;
		int ret;

		if (!relocates_text(elf, &sh, &text)) {
			continue;
		}
		if (sh.sh_entsize != sizeof(Elf64_Rela) || sh.sh_size > budget ||
		    open_table(elf, &relas, sh.sh_offset, sh.sh_size / sizeof(Elf64_Rela),
			       sizeof(Elf64_Rela)) != 0 ||
		    (text.sh_type != SHT_NOBITS &&
		     !in_range(text.sh_offset, text.sh_size, elf->size))) {
			return -EINVAL;
		}
		budget -= sh.sh_size;
		if (!found) {
			walk.elf = elf;
			walk.prefix = prefix_of(prefix);
			walk.fn = fn;
			walk.arg = arg;
			filter_build(&walk.filter, &elf->symtab, &walk.prefix);
			found = true;
		}
		ret = visit_section(&walk, &text, &relas);
		if (ret != 0) {
			return ret;
		}
	}
	return found ? 0 : -ENODATA;
}

enum shunt_elf_lack shunt_elf_lack(const struct shunt_elf *elf)
{
	if (elf->sections.count == 0) {
		return SHUNT_ELF_LACKS_SECTIONS;
	}
	if (elf->symtab.section == 0) {
		return SHUNT_ELF_LACKS_SYMBOLS;
	}
	for (uint64_t i = 1; i < elf->sections.count; i++) {
		Elf64_Shdr sh = load_section(elf, i);
		Elf64_Shdr text;

		if (relocates_text(elf, &sh, &text)) {
			return SHUNT_ELF_LACKS_NOTHING;
		}
	}
	return SHUNT_ELF_LACKS_RELOCATIONS;
}

const char *shunt_elf_lack_text(enum shunt_elf_lack lack)
{
	switch (lack) {
	case SHUNT_ELF_LACKS_NOTHING:
		return "has relocations of its text";
	case SHUNT_ELF_LACKS_SECTIONS:
		return "has no section headers";
	case SHUNT_ELF_LACKS_SYMBOLS:
		return "has no symbol table (stripped)";
	case SHUNT_ELF_LACKS_RELOCATIONS:
		return "has no relocations of its text (not linked with -Wl,--emit-relocs)";
	}
	return "is in an unknown state";
}
