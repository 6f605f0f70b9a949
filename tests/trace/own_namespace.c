/* SPDX-License-Identifier: MIT */
/* For the control of namespaces.c: a libshunt that looks at the modules of its own namespace alone.
 */
#include "linux/entry/modules.h"

void __wrap_shunt_loader_others(void (*fn)(uintptr_t base, const char *name));
void __wrap_shunt_loader_others(void (*fn)(uintptr_t base, const char *name))
{
	(void)fn;
}
