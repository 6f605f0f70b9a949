/* SPDX-License-Identifier: MIT */
/* call and jmp rel32 and the off form of both, of which large batches are made: in line (arch.h).
 */
#ifndef SHUNT_ARCH_X86_64_PLAIN_H
#define SHUNT_ARCH_X86_64_PLAIN_H

#define SHUNT_PLAIN_LEN 5

static inline bool shunt_insn_plain(unsigned op, uintptr_t target, uintptr_t ip, uint8_t *bytes)
{
	uintptr_t rel = target - (ip + SHUNT_PLAIN_LEN);

	if (rel + 0x80000000u > 0xffffffffu)
		return false;
	bytes[0] = op == SHUNT_OP_CALL ? 0xe8 : op == SHUNT_OP_JMP ? 0xe9 : 0xa9;
	__builtin_memcpy(bytes + 1, &(uint32_t){(uint32_t)rel}, 4);
	return true;
}

#endif
