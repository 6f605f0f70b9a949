/* SPDX-License-Identifier: MIT */
/*
 * For tests of the remap, in their own shunt_port_poke_begin() (ld --wrap): on a CPU on which no
 * site traps every update is a flip first, whatever the policy, and SHUNT_POKE_REMAP is what
 * follows where that fails. Here it comes first on either CPU: as if the flip had failed.
 */
#ifndef SHUNT_TESTS_REMAP_FIRST_H
#define SHUNT_TESTS_REMAP_FIRST_H

#include <stdbool.h>

#include "cpu.h"
#include "linux/text/text.h"

int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);

/*
 * Of the policies that allow a remap, auto alone allows another way besides (where nothing traps:
 * single stores).
 */
static inline bool policy_is_remap(void)
{
	return shunt_way_is_allowed(SHUNT_WAY_REMAP) && !shunt_way_is_allowed(SHUNT_WAY_ATOMIC);
}

static inline int begin_remap_first(size_t n, bool flips, unsigned tried)
{
	if (!CPU_HAS_TRAPS && policy_is_remap())
		tried |= 1u << SHUNT_WAY_FLIP;
	return __real_shunt_port_poke_begin(n, flips, tried);
}

#endif
