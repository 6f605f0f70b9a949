/* SPDX-License-Identifier: MIT */
/*
 * What stubs that save vector registers (ftrace_save.inc) must know of the CPU: q0 to q31 every one
 * has.
 */
#include <stdint.h>
#include <sys/auxv.h>

#include "arch/arch.h"

extern uint8_t shunt_has_sve; /* saving.S */

#define SVE (1ul << 22) /* of AT_HWCAP */
#define SME (1ul << 23) /* of AT_HWCAP2 */

void shunt_ask_vectors(void)
{
	uint8_t found = 0;

	if (getauxval(AT_HWCAP) & SVE)
		found |= 1;
	if (getauxval(AT_HWCAP2) & SME)
		found |= 2;
	shunt_has_sve = found;
}
