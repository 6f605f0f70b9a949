/* SPDX-License-Identifier: MIT */
/* The compiler's nop can be poked as it is, and so can every entry. */
#include "arch/arch.h"

int shunt_prepare_head(unsigned prepare, const uint8_t *old, uintptr_t ip,
		       uint8_t bytes[SHUNT_INSN_MAX])
{
	(void)prepare;
	(void)old;
	(void)ip;
	(void)bytes;
	return 0;
}

int shunt_prepare_tail(unsigned prepare, const uint8_t *old, uint8_t bytes[SHUNT_INSN_MAX])
{
	(void)prepare;
	(void)old;
	(void)bytes;
	return 0;
}
