/* SPDX-License-Identifier: MIT */
/*
 * The constants of aarch64 (arch.h), and bl and b in line. There is one way to poke: each
 * instruction that a site can hold (bl, b, nop) may be replaced by each other one while CPUs run
 * it, by one aligned store (a64_is_patchable()).
 */
#ifndef SHUNT_ARCH_AARCH64_PLAIN_H
#define SHUNT_ARCH_AARCH64_PLAIN_H

#include "arch/aarch64/a64.h"

#define SHUNT_PLAIN_LEN    4
#define SHUNT_INSN_ALIGN   4
#define SHUNT_INSN_LONGEST 4
#define SHUNT_SITE_LENGTHS 0x4444444u
#define SHUNT_TRAMP_SIZE   16
#define SHUNT_TRAMP_FIRST  0x5f
#define SHUNT_REACH        0x7ff0000
#define SHUNT_REACH_NAME   "128 MiB"
#define SHUNT_HAS_TRAPS    0
#define SHUNT_INT3         0xcc /* is looked for at sites with a mark alone, of which there are none */
#define SHUNT_FLIP_LEN     4
#define SHUNT_OFF_CALL     SHUNT_OP_NOP
#define SHUNT_OFF_TAIL     SHUNT_OP_JMP  /* a ret must not be replaced while it runs */
#define SHUNT_RET0_CALL    SHUNT_OP_CALL /* nor a mov */
#define SHUNT_ENTRY_OP     SHUNT_OP_JMP  /* x30 is the function's own: a bl would need it saved */
#define SHUNT_LANDING_PAD  4
#define SHUNT_ADDRESS_BITS 48

/* STO_AARCH64_VARIANT_PCS: it may take or keep SVE registers, of which stubs save 128 bits. */
#define SHUNT_VARIANT_CALLS 0x80
#define SHUNT_VARIANT_REASON                                                       \
	"it is called by a variant of the procedure call standard (vector or SVE " \
	"registers), whose registers an entry's stub does not keep"

#define SHUNT_HAS_ENTRY_STUBS 1

/* Of user space, whose addresses begin at 0. */
static inline uintptr_t shunt_address_of(uint64_t low)
{
	return (uintptr_t)(low & 0xffffffffffffu);
}

/* Always: decode and encode know no others. */
static inline bool shunt_is_flip(uint64_t from, uint64_t to)
{
	(void)from;
	(void)to;
	return true;
}

static inline bool shunt_insn_plain(unsigned op, uintptr_t target, uintptr_t ip, uint8_t *bytes)
{
	if (op == SHUNT_OP_TEST || !a64_branch_reaches(ip, target))
		return false;
	__builtin_memcpy(bytes, &(uint32_t){a64_branch(op == SHUNT_OP_CALL, ip, target)}, 4);
	return true;
}

/* It is a b, or as the compiler left it. */
static inline void shunt_entry_fill(uint8_t *bytes, unsigned len, bool is_ret, bool is_on)
{
	(void)bytes;
	(void)len;
	(void)is_ret;
	(void)is_on;
}

static inline bool shunt_entry_is_off(const uint8_t *bytes)
{
	(void)bytes;
	return false;
}

static inline bool shunt_entry_is_jumped(const uint8_t *bytes)
{
	(void)bytes;
	return false;
}

#endif
