/* SPDX-License-Identifier: MIT */
/* An auditor (rtld-audit(7)) that binds all calls of the key event to a function of its own. */
#include <link.h>
#include <string.h>

static int audited(void)
{
	return 66;
}

unsigned la_version(unsigned version)
{
	(void)version;
	return LAV_CURRENT;
}

unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
	(void)map, (void)space, (void)cookie;
	return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

#ifdef STAYS
/* Whoever wants to see calls sees them all: the slot leads to the dynamic linker for good. */
Elf64_Addr la_x86_64_gnu_pltenter(Elf64_Sym *sym, unsigned index, uintptr_t *by, uintptr_t *of,
				  La_x86_64_regs *regs, unsigned *flags, const char *name,
				  long *frame_size)
{
	(void)index, (void)by, (void)of, (void)regs, (void)flags, (void)name, (void)frame_size;
	return sym->st_value;
}
#endif

uintptr_t la_symbind64(Elf64_Sym *sym, unsigned index, uintptr_t *by, uintptr_t *of,
		       unsigned *flags, const char *name)
{
	(void)index, (void)by, (void)of, (void)flags;
	return strcmp(name, "__SCT__event") ? sym->st_value : (uintptr_t)audited;
}
