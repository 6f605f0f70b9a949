/* SPDX-License-Identifier: MIT */
/*
 * Which keys an executable exports without effect. The linker puts a symbol of an executable into
 * .dynsym only if a shared object on its command line refers to it, or with -rdynamic; a plugin
 * that is loaded later then fails with "undefined symbol: __SCT__key", where nothing of ours has a
 * say.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elf.h>

#include "trace_file.h"
#include "unseen_exports.h"

struct search {
	const struct shunt_elf *elf;
	json_t *names;
	size_t prefix_len;
};

static bool is_dynamic_executable(const struct shunt_elf *elf)
{
	bool found = false;

	for (uint64_t i = 0; i < elf->segments.count && !found; i++) {
		Elf64_Phdr phdr;

		memcpy(&phdr, elf->segments.data + i * sizeof(phdr), sizeof(phdr));
		found = phdr.p_type == PT_INTERP;
	}
	return found && elf->dynsym.symbols.count;
}

static bool is_in_dynsym(const struct shunt_elf *elf, const char *name, size_t len)
{
	const struct shunt_elf_symtab *tab = &elf->dynsym;

	for (uint64_t i = 1; i < tab->symbols.count; i++) {
		Elf64_Sym sym;

		memcpy(&sym, tab->symbols.data + i * sizeof(sym), sizeof(sym));
		if (sym.st_name < tab->strings_size && sym.st_shndx != SHN_UNDEF &&
		    shunt_elf_name_len(tab->strings + sym.st_name) == len &&
		    !memcmp(tab->strings + sym.st_name, name, len))
			return true;
	}
	return false;
}

/* What was hidden has become local in a linked file, or it is not (GNU ld, of an executable's). */
static bool is_hidden(const struct shunt_elf_sym *sym)
{
	unsigned visibility = ELF64_ST_VISIBILITY(sym->other);

	return sym->binding != STB_GLOBAL || visibility == STV_HIDDEN || visibility == STV_INTERNAL;
}

static int look_at(void *arg, const struct shunt_elf_sym *sym)
{
	struct search *s = arg;
	size_t len = shunt_elf_name_len(sym->name);
	json_t *name;

	if (sym->undefined || is_hidden(sym) || len <= s->prefix_len ||
	    is_in_dynsym(s->elf, sym->name, len))
		return 0;
	name = json_stringn(sym->name + s->prefix_len, len - s->prefix_len);
	return json_array_append_new(s->names, name ? name : json_null()); /* no UTF-8 */
}

json_t *unseen_exports_json(const struct shunt_elf *elf)
{
	/* The symbol by which a module uses a key of another's. */
	static const char *const prefixes[] = {"__SCT__", "__SKF__", "__SKT__"};
	json_t *names = json_array();

	for (size_t i = 0; names && is_dynamic_executable(elf) && i < 3; i++) {
		struct search s = {elf, names, strlen(prefixes[i])};

		int ret = shunt_elf_for_each_sym(elf, prefixes[i], look_at, &s);

		if (ret && ret != -ENODATA) { /* a stripped file: nothing is known */
			json_decref(names);
			names = NULL;
		}
	}
	return names;
}

void unseen_exports_show(const struct shunt_elf *elf, const char *path)
{
	json_t *names = unseen_exports_json(elf);

	for (size_t i = 0; i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		char *shown = name ? trace_printable(name, strlen(name)) : NULL;

		(void)printf("%s: exports %s, but not to plugins: link it with -rdynamic\n", path,
			     shown ? shown : "a key");
		free(shown);
	}
	json_decref(names);
}
