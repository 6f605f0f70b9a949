/* SPDX-License-Identifier: MIT */
/*
 * The sites of static calls in an inventory, by the relocations of text that the linker kept;
 * and whatever else refers to trampolines, with the reason why it is no site.
 */
#include "inventory_parts.h"

struct call_search {
	struct inventory *inv;
	uint32_t *key_of_sym; /* by symbol index: key + 1; UINT32_MAX: not of a key */
};

/* The key that @sym is the trampoline of, or UINT32_MAX; also where there is no memory. */
static int key_of_symbol(struct call_search *s, const struct shunt_elf_sym *sym, uint32_t *key)
{
	uint32_t *known = &s->key_of_sym[sym->index];
	size_t len = shunt_elf_name_len(sym->name);

	if (!*known) {
		uint32_t i;

		if (sym->undefined) {
			i = inventory_import_key(s->inv, false, sym->name + PREFIX_LEN,
						 len - PREFIX_LEN);
			if (i == UINT32_MAX)
				return -ENOMEM;
		} else {
			i = inventory_trampoline_key(s->inv, sym->value);
			if (i != UINT32_MAX)
				inventory_key(s->inv, i)->tramp = sym->value;
		}
		*known = i == UINT32_MAX ? UINT32_MAX : i + 1;
	}
	*key = *known == UINT32_MAX ? UINT32_MAX : *known - 1;
	return 0;
}

/*
 * Whether @call goes where calls of *@key go; where the dynamic
 * linker binds it, that is an imported key, even if one of its name is in this file. A key has
 * one slot, and one address that calls go to: the first that is met. Where a linker has put
 * stubs in the way of some, or several for it, *@via is another one.
 */
static int resolve_key(struct inventory *inv, uint32_t *key, const struct shunt_elf_site *call,
		       uint64_t *via)
{
	bool indirect = call->kind == SHUNT_KIND_CALL_GOT || call->kind == SHUNT_KIND_JMP_GOT;
	uint64_t target = call->operand, behind = target, *known;
	struct file_key *named = inventory_key(inv, *key);
	struct pointer pointer;

	if (!target)
		return false;
	if (!indirect)
		behind = inventory_behind_stubs(inv, target);
	if (!indirect && named->tramp == behind) {
		*via = target == behind ? 0 : target;
		return true;
	}
	pointer = pointers_at(&inv->pointers, indirect ? target : inventory_plt_slot(inv, behind));
	if (inventory_is_bound_to(&pointer, named)) {
		if (!named->imported)
			*key = inventory_import_key(inv, false, named->name,
						    (size_t)named->name_len);
		if (*key == UINT32_MAX)
			return -ENOMEM;
	} else if (!indirect || pointer.kind != POINTER_ADDRESS || named->imported ||
		   pointer.address != named->tramp) {
		return false;
	}
	named = inventory_key(inv, *key);
	known = indirect ? &named->slot : &named->tramp;
	if (!*known)
		*known = target;
	if (*known != target && !indirect)
		*via = target;
	return *known == target || *via;
}

static int add_reference(struct inventory *inv, uint64_t addr, uint32_t key, const char *why)
{
	struct file_ref ref = {.addr = addr, .key = key, .why = why};

	return array_add(&inv->refs, &ref, sizeof(ref)) ? 0 : -ENOMEM;
}

int inventory_add_site(struct inventory *inv, const struct file_site *site)
{
	inventory_key(inv, site->key)->nr_sites++;
	return array_add(&inv->sites, site, sizeof(*site)) ? 0 : -ENOMEM;
}

/* Add a site of @key at @call; or, as a reference, why it is none. */
static int add_call(struct inventory *inv, uint64_t field, uint32_t key,
		    const struct shunt_elf_site *call)
{
	struct file_site site = {.addr = call->addr, .kind = call->kind};
	int ret;

	if (!inventory_has_text(inv, call->addr, shunt_elf_site_len(inv->elf.cpu, call->kind)))
		return add_reference(inv, field, key, "in no text of the file");
	ret = resolve_key(inv, &key, call, &site.via);
	if (ret < 0)
		return ret;
	if (!ret)
		return add_reference(inv, field, key, "does not go to the trampoline");
	if (call->addr - inv->base > UINT32_MAX)
		return add_reference(inv, field, key, "4 GiB behind the module's start");
	site.key = key;
	return inventory_add_site(inv, &site);
}

static int visit_reference(void *arg, const struct shunt_elf_ref *ref,
			   const struct shunt_elf_sym *sym)
{
	struct call_search *s = arg;
	struct shunt_elf_site call;
	const char *why;
	uint32_t key;
	int ret = key_of_symbol(s, sym, &key);

	if (ret || key == UINT32_MAX)
		return ret;
	/* What the section has there must be what a segment maps there. */
	if (!ref->bytes || shunt_elf_at(&s->inv->elf, ref->field, 4) != ref->bytes)
		return add_reference(s->inv, ref->field, key, "in no text of the file");
	why = s->inv->elf.cpu->site_at(ref, ref->bytes, ref->field, &call);
	return why ? add_reference(s->inv, ref->field, key, why)
		   : add_call(s->inv, ref->field, key, &call);
}

static int visit_relocation(struct call_search *s, const Elf64_Rela *rela, bool text)
{
	const struct shunt_elf_symtab *tab = &s->inv->elf.symtab;
	uint64_t index = ELF64_R_SYM(rela->r_info);
	const char *why = s->inv->elf.cpu->why_no_site((uint32_t)ELF64_R_TYPE(rela->r_info), text);
	struct shunt_elf_sym sym = {0};
	Elf64_Sym raw;
	uint32_t key;
	int ret;

	if (!why || index >= tab->symbols.count)
		return 0;
	memcpy(&raw, tab->symbols.data + index * sizeof(raw), sizeof(raw));
	if (raw.st_name >= tab->strings_size)
		return 0;
	sym.name = tab->strings + raw.st_name;
	if (strncmp(sym.name, SHUNT_TRAMP_PREFIX, PREFIX_LEN) != 0)
		return 0;
	sym.index = (uint32_t)index;
	sym.value = raw.st_value;
	sym.undefined = raw.st_shndx == SHN_UNDEF;
	ret = key_of_symbol(s, &sym, &key);
	if (ret || key == UINT32_MAX)
		return ret;
	return add_reference(s->inv, rela->r_offset, key, why);
}

/* Kept relocations of loaded sections. shunt_elf_for_each_ref() has checked no more than text's. */
static int find_other_references(struct call_search *s)
{
	const struct shunt_elf *elf = &s->inv->elf;
	uint64_t budget = elf->size;

	for (uint64_t i = 1; i < elf->sections.count; i++) {
		Elf64_Shdr sh, of;

		memcpy(&sh, elf->sections.data + i * sizeof(sh), sizeof(sh));
		if (sh.sh_type != SHT_RELA || (sh.sh_flags & SHF_ALLOC) ||
		    sh.sh_link != elf->symtab.section || sh.sh_info >= elf->sections.count)
			continue;
		memcpy(&of, elf->sections.data + sh.sh_info * sizeof(of), sizeof(of));
		if (!(of.sh_flags & SHF_ALLOC))
			continue;
		if (sh.sh_offset > elf->size || sh.sh_size > elf->size - sh.sh_offset ||
		    sh.sh_size > budget)
			return -EINVAL;
		budget -= sh.sh_size;
		for (uint64_t at = 0; sh.sh_size - at >= sizeof(Elf64_Rela);
		     at += sizeof(Elf64_Rela)) {
			Elf64_Rela rela;
			int ret;

			memcpy(&rela, elf->image + sh.sh_offset + at, sizeof(rela));
			ret = visit_relocation(s, &rela, of.sh_flags & SHF_EXECINSTR);
			if (ret)
				return ret;
		}
	}
	return 0;
}

int inventory_read_relocations(struct inventory *inv)
{
	struct call_search s = {.inv = inv};
	int ret;

	inv->lack = shunt_elf_lack(&inv->elf);
	if (inv->lack != SHUNT_ELF_LACKS_NOTHING)
		return 0;
	s.key_of_sym = calloc(inv->elf.symtab.symbols.count + 1, sizeof(s.key_of_sym[0]));
	if (!s.key_of_sym)
		return -ENOMEM;
	ret = shunt_elf_for_each_ref(&inv->elf, SHUNT_TRAMP_PREFIX, visit_reference, &s);
	if (!ret)
		ret = find_other_references(&s);
	free(s.key_of_sym);
	return ret;
}
