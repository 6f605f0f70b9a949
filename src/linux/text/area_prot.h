/* SPDX-License-Identifier: MIT */
/*
 * The protection that the CPU has beside PROT_READ, PROT_WRITE and PROT_EXEC (SHUNT_PROT_CPU),
 * which a mapping loses by each mprotect() that does not name it (area_prot.c). Update lock held.
 */
#ifndef SHUNT_LINUX_AREA_PROT_H
#define SHUNT_LINUX_AREA_PROT_H

#include "linux/base/base.h"

/* For the inline below. */
int shunt_area_ask_prot_cpu(uintptr_t addr, struct shunt_range *range);

/*
 * SHUNT_PROT_CPU if what is mapped at @addr has it, else 0. *range is narrowed to what is known to
 * be alike. Where the kernel cannot be asked, what the object asks for that is there.
 */
static inline int shunt_area_prot_cpu(uintptr_t addr, struct shunt_range *range)
{
	return SHUNT_PROT_CPU ? shunt_area_ask_prot_cpu(addr, range) : 0;
}

#endif
