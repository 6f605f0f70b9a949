/* SPDX-License-Identifier: MIT */
/* Entries of functions as compilers leave them (arch.h). */
#include "arch/arch.h"
#include "core/ftrace.h"

static const uint8_t endbr64[SHUNT_LANDING_PAD] = {0xf3, 0x0f, 0x1e, 0xfa};

static bool is_same(const uint8_t *code, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (code[i] != bytes[i])
			return false;
	return true;
}

unsigned shunt_landing_pad_len(const uint8_t *code, size_t len)
{
	return len >= sizeof(endbr64) && is_same(code, endbr64, sizeof(endbr64)) ? sizeof(endbr64)
										 : 0;
}

bool shunt_is_empty_function(const uint8_t *code, size_t len)
{
	size_t at = shunt_landing_pad_len(code, len);

	return len > at && code[at] == 0xc3;
}

/* One nop of 5 bytes or more, or five of one. */
const char *shunt_entry_room(const uint8_t *code, size_t len, uintptr_t ip, uint8_t *room,
			     uint8_t *prepare)
{
	unsigned at = 0, singles = 0, first = 0;
	struct shunt_insn insn;

	for (; at < SHUNT_PLAIN_LEN; singles++) {
		if (at >= len || shunt_insn_decode(code + at, len - at, ip + at, &insn) <= 0 ||
		    insn.op != SHUNT_OP_NOP)
			return "its entry has room for less than the 5 bytes of a call";
		first = at ? first : insn.len;
		at += insn.len;
	}
	if (first == 1 && singles == 5) {
		*prepare = SHUNT_SINGLE_NOPS;
		return NULL;
	}
	if (first < SHUNT_PLAIN_LEN)
		return "its entry has several nops, of more than one byte";
	*prepare = first > 6 ? SHUNT_LONG_NOP : SHUNT_READY;
	*room = first > 6 ? SHUNT_PLAIN_LEN : (uint8_t)first;
	return NULL;
}

const char *shunt_sled_room(const uint8_t *code, size_t len, bool is_exit, uint8_t *room,
			    uint8_t *prepare)
{
	static const uint8_t jmp9[] = {0xeb, 0x09, 0x66, 0x0f, 0x1f, 0x84,
				       0x00, 0x00, 0x02, 0x00, 0x00};

	if (is_exit) {
		*room = 6;
		return code[0] == 0xc3 ? NULL : "its sled is not known";
	}
	*prepare = SHUNT_XRAY_HEAD;
	return len >= sizeof(jmp9) && is_same(code, jmp9, sizeof(jmp9)) ? NULL
									: "its sled is not known";
}

/* The ret, and what pads it up to the bytes of a jmp. */
size_t shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end, uintptr_t *sites,
				  size_t max, uint8_t *op)
{
	const uint8_t *at = (const uint8_t *)func; /* NOLINT(performance-no-int-to-ptr) */
	struct shunt_insn insn;
	unsigned len = 1;

	if (!max || func < start || end - func < SHUNT_LANDING_PAD + 2 * SHUNT_INSN_LONGEST)
		return 0;
	at += shunt_landing_pad_len(at, SHUNT_LANDING_PAD);
	if (*at != 0xc3)
		return 0;
	while (len < SHUNT_PLAIN_LEN) {
		if (at[len] == SHUNT_INT3) {
			len++;
			continue;
		}
		if (shunt_insn_decode(at + len, SHUNT_INSN_LONGEST, 0, &insn) <= 0 ||
		    insn.op != SHUNT_OP_NOP)
			return 0;
		len += insn.len;
	}
	sites[0] = (uintptr_t)at;
	*op = SHUNT_OP_JMP;
	return 1;
}

uintptr_t shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i)
{
	struct shunt_insn insn;

	if (i || func < start || end - func < SHUNT_LANDING_PAD + SHUNT_INSN_LONGEST)
		return 0;
	/* NOLINTBEGIN(performance-no-int-to-ptr) */
	func += shunt_landing_pad_len((const uint8_t *)func, SHUNT_LANDING_PAD);
	if (shunt_insn_decode((const uint8_t *)func, SHUNT_INSN_LONGEST, func, &insn) <= 0)
		return 0;
	/* NOLINTEND(performance-no-int-to-ptr) */
	return insn.op == SHUNT_OP_JMP ? insn.target : 0;
}
