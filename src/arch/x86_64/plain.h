/* SPDX-License-Identifier: MIT */
/*
 * The constants of x86-64 (arch.h); call and jmp rel32 and the off form of both, of which large
 * batches are made, in line.
 */
#ifndef SHUNT_ARCH_X86_64_PLAIN_H
#define SHUNT_ARCH_X86_64_PLAIN_H

#define SHUNT_PLAIN_LEN    5
#define SHUNT_INSN_ALIGN   1
#define SHUNT_INSN_LONGEST 15
#define SHUNT_SITE_LENGTHS 0x2566565u
#define SHUNT_TRAMP_SIZE   10
#define SHUNT_TRAMP_FIRST  0xf3
#define SHUNT_REACH        0x7fff0000
#define SHUNT_REACH_NAME   "2 GiB"
#define SHUNT_HAS_TRAPS    1
#define SHUNT_INT3         0xcc
#define SHUNT_FLIP_LEN     1
#define SHUNT_OFF_CALL     SHUNT_OP_TEST
#define SHUNT_OFF_TAIL     SHUNT_OP_RET
#define SHUNT_RET0_CALL    SHUNT_OP_RET0
#define SHUNT_ENTRY_OP     SHUNT_OP_CALL
#define SHUNT_LANDING_PAD  4
#define SHUNT_ADDRESS_BITS 47
#define SHUNT_ARGUMENT     7 /* rdi */

#define SHUNT_VARIANT_CALLS  0
#define SHUNT_VARIANT_REASON ""

#define SHUNT_HAS_ENTRY_STUBS 0

/* Sign-extended: "canonical". */
static inline uintptr_t shunt_address_of(uint64_t low)
{
	return (uintptr_t)((int64_t)(low << 16) >> 16);
}

/* The first byte alone changes, and neither is an int3 (core/poke_flip.c). */
static inline bool shunt_is_flip(uint64_t from, uint64_t to)
{
	uint64_t differ = from ^ to;

	return differ && !(differ & ~(uint64_t)0xff) && (from & 0xff) != SHUNT_INT3 &&
	       (to & 0xff) != SHUNT_INT3;
}

static inline bool shunt_insn_plain(unsigned op, uintptr_t target, uintptr_t ip, uint8_t *bytes)
{
	uintptr_t rel = target - (ip + SHUNT_PLAIN_LEN);

	if (rel + 0x80000000u > 0xffffffffu)
		return false;
	bytes[0] = op == SHUNT_OP_CALL ? 0xe8 : op == SHUNT_OP_JMP ? 0xe9 : 0xa9;
	__builtin_memcpy(bytes + 1, &(uint32_t){(uint32_t)rel}, 4);
	return true;
}

/* Off: the call's displacement stays, as an immediate; behind a ret nothing leads to it. */
static inline void shunt_entry_fill(uint8_t *bytes, unsigned len, bool is_ret, bool is_on)
{
	if (!is_on)
		bytes[0] = is_ret ? 0xc3 : 0xa9;
	if (len > SHUNT_PLAIN_LEN)
		bytes[SHUNT_PLAIN_LEN] = is_ret ? 0xc3 : 0x90;
}

/* test $imm,%eax; and jmp rel8. */
static inline bool shunt_entry_is_off(const uint8_t *bytes)
{
	return bytes[0] == 0xa9;
}

static inline bool shunt_entry_is_jumped(const uint8_t *bytes)
{
	return bytes[0] == 0xeb;
}

#endif
