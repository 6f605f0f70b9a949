/* SPDX-License-Identifier: MIT */
/*
 * The inventory of a file (inventory.h): the order in which its parts are looked for, and what
 * must hold of all of it. Which instruction is a site, and what a site table says, is found by
 * the same code as in the library (src/linux/elf); there the live bytes are looked at and what the
 * dynamic linker has bound, here the file and its dynamic relocations.
 */
#include "inventory_parts.h"

#include "dynamic.h"
#include "file_cpu.h"
#include "linux/elf/baked.h"

static int compare_sites(const void *left, const void *right)
{
	const struct file_site *a = left, *b = right;

	return (a->addr > b->addr) - (a->addr < b->addr);
}

static int compare_refs(const void *left, const void *right)
{
	const struct file_ref *a = left, *b = right;

	return (a->addr > b->addr) - (a->addr < b->addr);
}

/* Sites are instructions: none begins within another one, and none is known twice. */
static int check_sites(struct inventory *inv)
{
	if (inv->sites.n)
		qsort(inv->sites.data, inv->sites.n, sizeof(struct file_site), compare_sites);
	if (inv->refs.n)
		qsort(inv->refs.data, inv->refs.n, sizeof(struct file_ref), compare_refs);
	for (size_t i = 1; i < inv->sites.n; i++) {
		const struct file_site *before = inventory_site(inv, i - 1);

		if (inventory_site(inv, i)->addr - before->addr <
		    shunt_elf_site_len(inv->elf.cpu, before->kind))
			return -EINVAL;
	}
	return 0;
}

/*
 * The address of the function @name: in this file, or its PLT entry's, which stands
 * for it in an executable that is not position-independent. 0: none.
 */
static uint64_t function_address(const struct shunt_elf *elf, const char *name)
{
	const struct shunt_elf_symtab *tab = &elf->dynsym;
	uint64_t value;

	if (!shunt_elf_symbol_value(elf, name, &value))
		return value;
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_value && sym.st_shndx == SHN_UNDEF &&
		    ELF64_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_name < tab->strings_size &&
		    !strcmp(tab->strings + sym.st_name, name))
			return sym.st_value;
	}
	return 0;
}

static bool imports(const struct shunt_elf *elf, const char *name)
{
	const struct shunt_elf_symtab *tab = &elf->dynsym;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_shndx == SHN_UNDEF && sym.st_name < tab->strings_size &&
		    !strcmp(tab->strings + sym.st_name, name))
			return true;
	}
	return false;
}

static int find_ifuncs(struct inventory *inv, const struct shunt_elf_symtab *tab)
{
	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (ELF64_ST_TYPE(sym.st_info) == STT_GNU_IFUNC && sym.st_value &&
		    !array_add(&inv->ifuncs, &sym.st_value, sizeof(sym.st_value)))
			return -ENOMEM;
	}
	return 0;
}

/* What later steps compare pointers with. */
static int find_functions(struct inventory *inv)
{
	int ret;

	inv->base = shunt_elf_first_load(&inv->elf);
	inv->nop = function_address(&inv->elf, "__static_call_nop");
	inv->return0 = function_address(&inv->elf, "__static_call_return0");
	inv->imports_library = imports(&inv->elf, "shunt_module_register");
	ret = find_ifuncs(inv, &inv->elf.symtab);
	return ret ? ret : find_ifuncs(inv, &inv->elf.dynsym);
}

/* The headers, and that the segments are there: what is read through the others. */
static int open_file(struct inventory *inv, const void *image, size_t size)
{
	int ret = file_cpu_open(&inv->elf, image, size);

	if (ret)
		return ret;
	if (inventory_lacks_code(inv)) {
		inv->why = "holds no code: its sections of code are empty, as in a file of "
			   "debugging information alone";
		return -ENOEXEC;
	}
	if (inventory_is_cut_off(inv)) {
		inv->why = "cut off: a segment reaches beyond the end of the file";
		return -EINVAL;
	}
	dynamic_open_symbols(&inv->elf);
	ret = pointers_open(&inv->pointers, &inv->elf);
	return ret ? ret : find_functions(inv);
}

/* As the file registers them; where it does not (a kernel), by the names of their sections. */
static void find_arrays(struct inventory *inv)
{
	bool has_calls, has_branches, is_expected;
	struct registered it;

	if (inventory_find_registered(inv, &it, &is_expected)) {
		inv->call_keys = it.call_keys;
		inv->nr_call_keys = it.nr_call_keys;
		inv->static_keys = it.static_keys;
		inv->nr_static_keys = it.nr_static_keys;
		inv->jumps = it.jumps;
		return;
	}
	has_calls =
		inventory_find_array(&inv->elf, "static_call_keys", sizeof(struct static_call_key),
				     &inv->call_keys, &inv->nr_call_keys);
	has_branches =
		inventory_find_array(&inv->elf, "static_keys", sizeof(struct shunt_static_key),
				     &inv->static_keys, &inv->nr_static_keys);
	if (is_expected && !has_calls && !has_branches)
		inv->untold = "what it registers with libshunt is not found in it";
}

int inventory_open(struct inventory *inv, const void *image, size_t size)
{
	struct shunt_baked table;
	int ret;

	*inv = (struct inventory){0};
	ret = open_file(inv, image, size);
	if (ret)
		return ret;
	find_arrays(inv);
	ret = inventory_add_defined_keys(inv);
	inv->rearranged = shunt_elf_rearranged(&inv->elf);
	if (ret || inv->rearranged)
		return ret;
	ret = shunt_baked_find(&inv->elf, &table);
	inv->baked = ret != -ENODATA;
	if (ret != -EINVAL)
		ret = inv->baked ? inventory_read_table(inv, &table)
				 : inventory_read_relocations(inv);
	if (!ret)
		ret = inventory_read_branches(inv);
	if (!ret)
		inventory_match_own_keys(inv);
	return ret ? ret : check_sites(inv);
}

void inventory_close(struct inventory *inv)
{
	pointers_close(&inv->pointers);
	array_free(&inv->keys);
	array_free(&inv->sites);
	array_free(&inv->refs);
	array_free(&inv->ifuncs);
}

const char *inventory_kind_name(const struct inventory *inv, const struct file_site *site)
{
	static const char *const names[] = {
		[SHUNT_KIND_CALL] = "call",
		[SHUNT_KIND_CALL_GOT] = "call-got",
		[SHUNT_KIND_JMP] = "tail",
		[SHUNT_KIND_JMP_GOT] = "tail-got",
		[SHUNT_KIND_JCC] = "conditional",
		[SHUNT_KIND_BRANCH] = "branch-nop5",
		[SHUNT_KIND_BRANCH2] = "branch-jmp2",
	};

	if ((site->kind & 0xf) == SHUNT_KIND_BRANCH &&
	    shunt_elf_site_len(inv->elf.cpu, SHUNT_KIND_BRANCH) == 4)
		return site->jumps ? "branch-jmp4" : "branch-nop4";
	if ((site->kind & 0xf) == SHUNT_KIND_BRANCH && site->jumps)
		return "branch-jmp5";
	if ((site->kind & 0xf) == SHUNT_KIND_BRANCH && site->tests)
		return "branch-test5";
	return names[site->kind & 0xf];
}
