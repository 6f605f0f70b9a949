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

void inventory_find_array(const struct shunt_elf *elf, const char *name, size_t record,
			  uint64_t *vaddr, uint64_t *n)
{
	Elf64_Shdr sh;

	*vaddr = *n = 0;
	if (shunt_elf_section_header(elf, name, &sh) || !(sh.sh_flags & SHF_ALLOC) ||
	    !shunt_elf_at(elf, sh.sh_addr, sh.sh_size))
		return;
	*vaddr = sh.sh_addr;
	*n = sh.sh_size / record;
}
