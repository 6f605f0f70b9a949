/* SPDX-License-Identifier: MIT */
/* What the parts of an inventory ask of the file: its text, and the arrays in its sections. */
#include "inventory_parts.h"

bool inventory_has_text(const struct inventory *inv, uint64_t vaddr, size_t len)
{
	for (uint64_t i = 0; i < inv->elf.segments.count; i++) {
		Elf64_Phdr ph = load_segment(&inv->elf, i);

		if (ph.p_type == PT_LOAD && (ph.p_flags & PF_X) && vaddr >= ph.p_vaddr &&
		    vaddr - ph.p_vaddr <= ph.p_filesz && len <= ph.p_filesz - (vaddr - ph.p_vaddr))
			return shunt_elf_at(&inv->elf, vaddr, len);
	}
	return false;
}

bool inventory_find_array(const struct shunt_elf *elf, const char *name, size_t record,
			  uint64_t *vaddr, uint64_t *n)
{
	Elf64_Shdr sh;

	*vaddr = *n = 0;
	if (shunt_elf_section_header(elf, name, &sh) || !(sh.sh_flags & SHF_ALLOC) ||
	    !shunt_elf_at(elf, sh.sh_addr, sh.sh_size))
		return false;
	*vaddr = sh.sh_addr;
	*n = sh.sh_size / record;
	return true;
}

bool inventory_lacks_code(const struct inventory *inv)
{
	bool lacks = false;

	for (uint64_t i = 1; i < inv->elf.sections.count; i++) {
		Elf64_Shdr sh = load_section(&inv->elf, i);

		if ((sh.sh_flags & (SHF_ALLOC | SHF_EXECINSTR)) != (SHF_ALLOC | SHF_EXECINSTR))
			continue;
		if (sh.sh_type != SHT_NOBITS)
			return false;
		lacks = true;
	}
	return lacks;
}

bool inventory_is_cut_off(const struct inventory *inv)
{
	for (uint64_t i = 0; i < inv->elf.segments.count; i++) {
		Elf64_Phdr ph = load_segment(&inv->elf, i);

		if (ph.p_type == PT_LOAD && !in_range(ph.p_offset, ph.p_filesz, inv->elf.size))
			return true;
	}
	return false;
}

static int is_any(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	(void)arg;
	(void)slot;
	(void)sym;
	return 1;
}

bool inventory_makes_calls(const struct inventory *inv)
{
	for (size_t i = 0; i < inv->keys.n; i++)
		if (!inventory_key(inv, i)->is_branch)
			return true;
	return shunt_elf_for_each_slot(&inv->elf, SHUNT_TRAMP_PREFIX, is_any, NULL) == 1;
}

const char *inventory_why_nameless(const struct inventory *inv)
{
	if (!inv->elf.sections.count)
		return shunt_elf_lack_text(SHUNT_ELF_LACKS_SECTIONS);
	for (uint64_t i = 1; i < inv->elf.sections.count; i++) {
		Elf64_Shdr sh = load_section(&inv->elf, i);
		const char *name = shunt_elf_section_name(&inv->elf, &sh);

		if (name && *name)
			return NULL;
	}
	return "has sections without names";
}

const char *inventory_why_unknown(const struct inventory *inv)
{
	if (inv->rearranged || inv->untold)
		return inv->rearranged ? inv->rearranged : inv->untold;
	if (inv->baked || inv->lack == SHUNT_ELF_LACKS_NOTHING)
		return NULL;
	for (size_t i = 0; i < inv->keys.n; i++)
		if (inventory_is_stuck(inv, inventory_key(inv, i)))
			return "was baked, and has no site table (section " SHUNT_BAKED_SECTION
			       ") any more";
	return shunt_elf_lack_text(inv->lack);
}

/* The code from @vaddr on that there is, up to SHUNT_ELF_PLT_MAX bytes. */
static const uint8_t *code_at(const struct inventory *inv, uint64_t vaddr, size_t *len)
{
	*len = SHUNT_ELF_PLT_MAX;
	while (*len && !inventory_has_text(inv, vaddr, *len))
		(*len)--;
	return *len ? shunt_elf_at(&inv->elf, vaddr, *len) : NULL;
}

uint64_t inventory_plt_slot(const struct inventory *inv, uint64_t vaddr)
{
	uint64_t slot;
	size_t len;
	const uint8_t *code = code_at(inv, vaddr, &len);

	return code && inv->elf.cpu->plt_slot(code, len, vaddr, &slot) ? slot : 0;
}

uint64_t inventory_behind_stubs(const struct inventory *inv, uint64_t vaddr)
{
	uint64_t target;
	size_t len;

	for (unsigned i = 0; i < SHUNT_ELF_STUBS; i++) {
		const uint8_t *code = code_at(inv, vaddr, &len);

		if (!code || !inv->elf.cpu->stub_target(code, len, vaddr, &target))
			break;
		vaddr = target;
	}
	return vaddr;
}
