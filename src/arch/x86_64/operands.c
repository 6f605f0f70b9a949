/* SPDX-License-Identifier: MIT */
/*
 * Calls and jumps by where they lead (arch.h): their displacements of 32 bits.
 *
 *	e8 rel32		call handler, call handler@plt; ld.bfd makes 67 e8 of the next one
 *	ff 15 rel32		call *handler@GOTPCREL(%rip): -fno-plt, and -fPIC with -mfentry
 *	e9 rel32, ff 25 rel32	jmp handler@plt, jmp *handler@...: a tail call
 *
 * That four bytes lead to one of a few addresses by chance, behind the opcode of a call, is likely
 * once in 2^40 bytes.
 */
#include "arch/arch.h"

static int32_t load32(const uint8_t *code)
{
	int32_t word;

	__builtin_memcpy(&word, code, sizeof(word));
	return word;
}

bool shunt_operand_next(const uint8_t *code, uint64_t size, uint64_t vaddr, uint64_t low,
			uint64_t span, uint64_t *at, uint64_t *to)
{
	/* There is an opcode before it. */
	for (uint64_t i = *at ? *at : 1; i + 4 <= size; i++) {
		uint64_t target = vaddr + i + 4 + (uint64_t)(int64_t)load32(code + i);

		if (target - low > span)
			continue;
		*at = i;
		*to = target;
		return true;
	}
	return false;
}

bool shunt_operand_insn(const uint8_t *field, uint64_t before, bool is_slot,
			struct shunt_operand_insn *insn)
{
	const uint8_t opcode = field[-1];

	if (is_slot) {
		*insn = (struct shunt_operand_insn){2, 6, opcode == 0x25};
		return before >= 2 && field[-2] == 0xff && (opcode == 0x15 || opcode == 0x25);
	}
	*insn = (struct shunt_operand_insn){1, 5, opcode == 0xe9};
	if (opcode == 0xe8 && before >= 2 && field[-2] == 0x67)
		*insn = (struct shunt_operand_insn){2, 6, false};
	return opcode == 0xe8 || opcode == 0xe9;
}

/*
 * lea func(%rip); mov $func, with the sign extended, as 32 bits, and as 64.
 */
bool shunt_sets_address(const uint8_t *code, uint64_t room, uint64_t vaddr, unsigned reg,
			uint64_t *value)
{
	const unsigned low = reg & 7, high = reg >> 3;

	if (room >= 7 && code[0] == (high ? 0x4c : 0x48) && code[1] == 0x8d &&
	    code[2] == (low << 3 | 5))
		*value = vaddr + 7 + (uint64_t)(int64_t)load32(code + 3);
	else if (room >= 7 && code[0] == (high ? 0x49 : 0x48) && code[1] == 0xc7 &&
		 code[2] == (0xc0 | low))
		*value = (uint64_t)(int64_t)load32(code + 3);
	else if (room >= 5 && !high && code[0] == (0xb8 | low))
		*value = (uint32_t)load32(code + 1);
	else if (room >= 6 && high && code[0] == 0x41 && code[1] == (0xb8 | low))
		*value = (uint32_t)load32(code + 2);
	else if (room >= 10 && code[0] == (high ? 0x49 : 0x48) && code[1] == (0xb8 | low))
		__builtin_memcpy(value, code + 2, sizeof(*value));
	else
		return false;
	return true;
}

/* mov %reg,%rdi, in either encoding. */
bool shunt_sets_argument(const uint8_t *code, uint64_t room, unsigned *reg)
{
	if (room < 3)
		return false;
	if ((code[0] == 0x48 || code[0] == 0x4c) && code[1] == 0x89 && (code[2] & 0xc7) == 0xc7) {
		*reg = (code[2] >> 3 & 7u) | (code[0] == 0x4c ? 8u : 0u);
		return true;
	}
	if ((code[0] == 0x48 || code[0] == 0x49) && code[1] == 0x8b && (code[2] & 0xf8) == 0xf8) {
		*reg = (code[2] & 7u) | (code[0] == 0x49 ? 8u : 0u);
		return true;
	}
	return false;
}
