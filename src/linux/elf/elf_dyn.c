/* SPDX-License-Identifier: MIT */
/* The ELF reader: GOT slots, as the dynamic linker finds them, without section headers. */
#include "linux/elf/elf_read.h"

/* What PT_DYNAMIC says, as far as it concerns GOT slots: addresses and sizes. */
struct dynamic {
	uint64_t symtab;
	uint64_t strtab;
	uint64_t strings_size;
	uint64_t rela;
	uint64_t rela_size;
	uint64_t jmprel;
	uint64_t jmprel_size;
};

static void set_dynamic(struct dynamic *dyn, const Elf64_Dyn *entry)
{
	switch (entry->d_tag) {
	case DT_SYMTAB:
		dyn->symtab = entry->d_un.d_ptr;
		break;
	case DT_STRTAB:
		dyn->strtab = entry->d_un.d_ptr;
		break;
	case DT_STRSZ:
		dyn->strings_size = entry->d_un.d_val;
		break;
	case DT_RELA:
		dyn->rela = entry->d_un.d_ptr;
		break;
	case DT_RELASZ:
		dyn->rela_size = entry->d_un.d_val;
		break;
	case DT_JMPREL:
		dyn->jmprel = entry->d_un.d_ptr;
		break;
	case DT_PLTRELSZ:
		dyn->jmprel_size = entry->d_un.d_val;
		break;
	default:
		break;
	}
}

static int load_dynamic(const struct shunt_elf *elf, struct dynamic *dyn)
{
	*dyn = (struct dynamic){0};
	for (uint64_t i = 0; i < elf->segments.count; i++) {
		Elf64_Phdr ph = load_segment(elf, i);
		Elf64_Dyn entry;

		if (ph.p_type != PT_DYNAMIC) {
			continue;
		}
		if (!in_range(ph.p_offset, ph.p_filesz, elf->size)) {
			return -EINVAL;
		}
		for (uint64_t at = 0; in_range(at, sizeof(entry), ph.p_filesz);
		     at += sizeof(entry)) {
			memcpy(&entry, elf->image + ph.p_offset + at, sizeof(entry));
			if (entry.d_tag == DT_NULL) {
				break;
			}
			set_dynamic(dyn, &entry);
		}
		return 0;
	}
	return -ENODATA;
}

/* The dynamic symbols as the segments map them: as many as could be there. */
static int open_dynamic_symtab(const struct shunt_elf *elf, const struct dynamic *dyn,
			       struct shunt_elf_symtab *tab)
{
	uint64_t avail;

	*tab = (struct shunt_elf_symtab){0};
	tab->symbols.data = shunt_elf_mapped_at(elf, dyn->symtab, &avail);
	tab->symbols.count = avail / sizeof(Elf64_Sym);
	tab->strings = (const char *)shunt_elf_mapped_at(elf, dyn->strtab, &avail);
	tab->strings_size = dyn->strings_size;
	if (tab->strings_size > avail ||
	    (tab->strings_size != 0 && tab->strings[tab->strings_size - 1] != '\0')) {
		return -EINVAL;
	}
	return 0;
}

/* A table of dynamic relocations, and whose slots are wanted. */
struct slot_walk {
	const struct shunt_elf *elf;
	const struct shunt_elf_symtab *tab;
	struct prefix prefix;
	shunt_elf_slot_fn fn;
	void *arg;
};

/* Visit the relocations of @type among the @size bytes at @vaddr. */
static int visit_slots(const struct slot_walk *walk, uint64_t vaddr, uint64_t size, uint32_t type)
{
	const uint8_t *relas = shunt_elf_at(walk->elf, vaddr, size);

	if (size != 0 && relas == NULL) {
		return -EINVAL;
	}
	for (uint64_t i = 0; i < size / sizeof(Elf64_Rela); i++) {
		struct shunt_elf_sym sym;
		Elf64_Rela rela;
		int ret;

		memcpy(&rela, relas + i * sizeof(rela), sizeof(rela));
		if (ELF64_R_TYPE(rela.r_info) != type) {
			continue;
		}
		if (ELF64_R_SYM(rela.r_info) >= walk->tab->symbols.count ||
		    !load_symbol(walk->tab, ELF64_R_SYM(rela.r_info), &sym)) {
			return -EINVAL;
		}
		if (strncmp(sym.name, walk->prefix.text, walk->prefix.len) != 0) {
			continue;
		}
		ret = walk->fn(walk->arg, rela.r_offset, &sym);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

int shunt_elf_for_each_slot(const struct shunt_elf *elf, const char *prefix, shunt_elf_slot_fn fn,
			    void *arg)
{
	struct shunt_elf_symtab tab;
	struct slot_walk walk = {
		.elf = elf, .tab = &tab, .prefix = prefix_of(prefix), .fn = fn, .arg = arg};
	struct dynamic dyn;
	int ret;

	ret = load_dynamic(elf, &dyn);
	if (ret == 0) {
		ret = open_dynamic_symtab(elf, &dyn, &tab);
	}
	if (ret == 0) {
		ret = visit_slots(&walk, dyn.jmprel, dyn.jmprel_size, elf->cpu->jump_slot);
	}
	if (ret == 0) {
		ret = visit_slots(&walk, dyn.rela, dyn.rela_size, elf->cpu->glob_dat);
	}
	return ret;
}

int shunt_elf_for_each_relative(const struct shunt_elf *elf, shunt_elf_relative_fn fn, void *arg)
{
	const uint8_t *relas;
	struct dynamic dyn;
	int ret = load_dynamic(elf, &dyn);

	if (ret != 0 || dyn.rela_size == 0) {
		return ret;
	}
	relas = shunt_elf_at(elf, dyn.rela, dyn.rela_size);
	if (relas == NULL) {
		return -EINVAL;
	}
	for (uint64_t i = 0; i < dyn.rela_size / sizeof(Elf64_Rela); i++) {
		Elf64_Rela rela;

		memcpy(&rela, relas + i * sizeof(rela), sizeof(rela));
		if (ELF64_R_TYPE(rela.r_info) != elf->cpu->relative) {
			continue;
		}
		ret = fn(arg, rela.r_offset, (uint64_t)rela.r_addend);
		if (ret != 0) {
			return ret;
		}
	}
	return 0;
}

struct slot_search {
	const char *symbol;
	uint64_t slot;
};

static int match_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	struct slot_search *search = arg;

	search->slot = slot;
	return strcmp(sym->name, search->symbol) == 0;
}

int shunt_elf_got_slot(const struct shunt_elf *elf, const char *symbol, uint64_t *slot)
{
	struct slot_search search = {.symbol = symbol};
	int ret = shunt_elf_for_each_slot(elf, symbol, match_slot, &search);

	if (ret == 1) {
		*slot = search.slot;
		return 0;
	}
	return ret == 0 ? -ENOENT : ret;
}
