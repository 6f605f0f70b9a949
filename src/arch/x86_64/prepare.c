/* SPDX-License-Identifier: MIT */
/*
 * Entries that cannot be poked as they are, made one instruction of 5 bytes (arch.h).
 *
 * Five nops of one byte become one instruction, by the first byte alone:
 *
 *	90 90 90 90 90	->  a9 90 90 90 90	test $0x90909090,%eax
 *
 * A thread that stands between two of them still finds nops there. Over a longer nop a jmp of 2
 * bytes is put first, which has the same effect.
 *
 * Of XRay's "jmp +9", and of such a jmp, the bytes that the call is to return to become a nop, or
 * a shorter jmp; nothing leads to them.
 */
#include "arch/arch.h"
#include "core/error.h"
#include "core/ftrace.h"

/* Volatile, lest the compiler make a memcpy of the loop. Returns @len. */
static int put(uint8_t *to, const uint8_t *from, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		((volatile uint8_t *)to)[i] = from[i];
	return (int)len;
}

int shunt_prepare_head(unsigned prepare, const uint8_t *old, uintptr_t ip,
		       uint8_t bytes[SHUNT_INSN_MAX])
{
	static const uint8_t one[SHUNT_PLAIN_LEN] = {0xa9, 0x90, 0x90, 0x90, 0x90};
	uint8_t jmp[2] = {0xeb};
	struct shunt_insn nop;

	if (shunt_entry_is_off(old) || shunt_entry_is_jumped(old))
		return 0;
	if (prepare == SHUNT_SINGLE_NOPS)
		return put(bytes, one, sizeof(one));
	if (prepare != SHUNT_LONG_NOP)
		return 0;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	if (shunt_insn_decode((const uint8_t *)ip, SHUNT_INSN_LONGEST, ip, &nop) <
		    SHUNT_PLAIN_LEN + (int)sizeof(jmp) ||
	    nop.op != SHUNT_OP_NOP)
		return -SHUNT_EBUSY;
	jmp[1] = (uint8_t)(nop.len - sizeof(jmp));
	return put(bytes, jmp, sizeof(jmp));
}

int shunt_prepare_tail(unsigned prepare, const uint8_t *old, uint8_t bytes[SHUNT_INSN_MAX])
{
	static const uint8_t nop6[] = {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00};
	const uint8_t over[] = {0xeb, (uint8_t)(old[1] - SHUNT_PLAIN_LEN)};

	if (prepare == SHUNT_LONG_NOP)
		return put(bytes, over, sizeof(over));
	return prepare == SHUNT_XRAY_HEAD ? put(bytes, nop6, sizeof(nop6)) : 0;
}
