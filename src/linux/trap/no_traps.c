/* SPDX-License-Identifier: MIT */
/*
 * The trap room of a CPU on which no poke traps (SHUNT_HAS_TRAPS of arch.h is 0): there is no
 * handler, and nothing to pass on.
 */
#include <errno.h>

#include <shunt/port.h>

#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"

_Atomic bool shunt_others_seen;

int shunt_port_install_handler(void)
{
	return -ENOSYS;
}

bool shunt_traps_reach_us(void)
{
	return false;
}

bool shunt_traps_reached_us(void)
{
	return false;
}

bool shunt_remove_handler(void)
{
	return false;
}

void shunt_await_passing(void)
{
}

void shunt_install_handler_early(void)
{
}

void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign)
{
	*emulated = *late = *foreign = 0;
}

bool shunt_trap_unchain(const uintptr_t *others, size_t n)
{
	(void)others;
	(void)n;
	return false;
}

void shunt_trap_unchained(void)
{
}
