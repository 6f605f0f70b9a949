/* SPDX-License-Identifier: MIT */
/* What is shown of a file by `shunt sites`, as a table or as JSON (sites_parts.h). */
#include "sites_parts.h"

unsigned sites_site_len(const struct view *v, const struct file_site *site)
{
	return shunt_elf_site_len(v->inv->elf.cpu, site->kind);
}

bool sites_straddles(const struct view *v, const struct file_site *site, unsigned unit)
{
	return site->addr % unit + sites_site_len(v, site) > unit;
}

const char *sites_initial_name(const struct view *v, const struct file_key *key)
{
	const char *symbol = NULL;
	uint64_t target = 0;

	if (key->is_branch)
		return key->imported ? NULL : key->flags ? "on" : "off";
	switch (inventory_initial(v->inv, key, &target, &symbol)) {
	case INITIAL_NULL:
		return "NULL";
	case INITIAL_RET0:
		return "RET0";
	case INITIAL_INTERPOSABLE:
	case INITIAL_FOREIGN:
		return symbol;
	case INITIAL_FUNCTION:
		symbol = shunt_elf_func_index_at(&v->functions, target, NULL);
		return symbol ? symbol : "(unnamed)";
	default:
		return NULL;
	}
}

const char *sites_function_of(const struct view *v, uint64_t addr, uint64_t *offset)
{
	uint64_t start = addr;
	const char *name = shunt_elf_func_index_at(&v->functions, addr, &start);

	*offset = addr - start;
	return name;
}

const char *sites_ref_state(const struct view *v, const struct file_ref *ref)
{
	return inventory_key(v->inv, ref->key)->is_branch ? "as linked" : "trampoline";
}
