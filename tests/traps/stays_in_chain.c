/* SPDX-License-Identifier: MIT */
/* For a plugin whose libshunt stays in the chains of others. */
#include "linux/trap/trap_chain.h"

bool __wrap_shunt_trap_unchain(const uintptr_t *others, size_t n);
bool __wrap_shunt_trap_unchain(const uintptr_t *others, size_t n)
{
	(void)others;
	(void)n;
	return false;
}
