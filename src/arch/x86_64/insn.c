/* SPDX-License-Identifier: MIT */
/*
 * The bytes of the instructions that a site can hold, both ways. One table describes every
 * form that is written; encode and decode are two readings of it, so that they cannot drift
 * apart. What compilers and assemblers write besides, with prefixes as they like, is decoded only.
 */
#include "arch/arch.h"
#include "core/error.h"

struct form {
	uint8_t op;                   /* enum shunt_op */
	uint8_t fixed;                /* bytes before the displacement */
	uint8_t disp;                 /* bytes of displacement: 0, 1 or 4 */
	uint8_t byte[SHUNT_INSN_MAX]; /* the fixed ones; a jcc's last one with cc = 0 */
};

/*
 * No form is the beginning of another one, so the order does not matter to
 * decode. The nops are those that Intel recommends (SDM volume 2, NOP).
 */
static const struct form forms[] = {
	{SHUNT_OP_CALL, 1, 4, {0xe8}},
	{SHUNT_OP_CALL, 2, 4, {0x67, 0xe8}},
	{SHUNT_OP_JMP, 1, 1, {0xeb}},
	{SHUNT_OP_JMP, 1, 4, {0xe9}},
	{SHUNT_OP_JCC, 1, 1, {0x70}},
	{SHUNT_OP_JCC, 2, 4, {0x0f, 0x80}},
	{SHUNT_OP_RET, 1, 0, {0xc3}},
	{SHUNT_OP_NOP, 1, 0, {0x90}},
	{SHUNT_OP_NOP, 2, 0, {0x66, 0x90}},
	{SHUNT_OP_NOP, 3, 0, {0x0f, 0x1f, 0x00}},
	{SHUNT_OP_NOP, 4, 0, {0x0f, 0x1f, 0x40, 0x00}},
	{SHUNT_OP_NOP, 5, 0, {0x0f, 0x1f, 0x44, 0x00, 0x00}},
	{SHUNT_OP_NOP, 6, 0, {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00}},
	{SHUNT_OP_NOP, 7, 0, {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00}},
	{SHUNT_OP_NOP, 8, 0, {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}},
	{SHUNT_OP_NOP, 9, 0, {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00}},
	{SHUNT_OP_INT3, 1, 0, {SHUNT_INT3}},
	{SHUNT_OP_RET0, 5, 0, {0x2e, 0x2e, 0x2e, 0x31, 0xc0}},
	{SHUNT_OP_RET0, 6, 0, {0x2e, 0x2e, 0x2e, 0x2e, 0x31, 0xc0}},
	{SHUNT_OP_CALL_MEM, 2, 4, {0xff, 0x15}},
	{SHUNT_OP_JMP_MEM, 2, 4, {0xff, 0x25}},
	{SHUNT_OP_TEST, 1, 1, {0xa8}},
	{SHUNT_OP_TEST, 1, 4, {0xa9}},
};

/* A ret in the place of a jmp, whose displacement stays: written only, and read as a ret. */
static const struct form ret_of_jmp = {SHUNT_OP_RET, 1, 4, {0xc3}};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

_Static_assert(sizeof(uintptr_t) == 8, "distances are reckoned modulo 2^64");

/* The sign bit of a displacement of @disp bytes. */
static uintptr_t sign_of(unsigned disp)
{
	return (uintptr_t)1 << (8 * disp - 1);
}

/*
 * Distances are computed modulo 2^64, as the CPU does: in unsigned arithmetic,
 * where wrapping around is defined.
 */
static bool fits(uintptr_t distance, unsigned disp)
{
	return distance + sign_of(disp) < 2 * sign_of(disp);
}

static uintptr_t sign_extend(uintptr_t value, unsigned disp)
{
	return (value ^ sign_of(disp)) - sign_of(disp);
}

/* Volatile, lest the compiler make a memcpy or memset of the loop around it. */
static void put(uint8_t *to, uint8_t byte)
{
	*(volatile uint8_t *)to = byte;
}

static const struct form *find_form(const struct shunt_insn *insn)
{
	uint8_t op = insn->op;
	unsigned len = op == SHUNT_OP_RET ? 1 : insn->len;

	if (op == SHUNT_OP_RET && insn->target && insn->len == 5)
		return &ret_of_jmp;
	for (size_t i = 0; i < FORMS; i++)
		if (forms[i].op == op && forms[i].fixed + forms[i].disp == len)
			return &forms[i];
	return NULL;
}

int shunt_insn_encode(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX])
{
	uintptr_t distance = insn->target - (ip + insn->len);
	const struct form *form;
	unsigned i, cc = 0;

	if (insn->len == 0 || insn->len > SHUNT_INSN_MAX)
		return -SHUNT_EINVAL;
	form = find_form(insn);
	if (!form)
		return -SHUNT_EINVAL;
	if (form->op == SHUNT_OP_JCC) {
		cc = insn->cc;
		if (cc > 15)
			return -SHUNT_EINVAL;
	}
	if (form->disp && !fits(distance, form->disp))
		return -SHUNT_ERANGE;

	for (i = 0; i < form->fixed; i++)
		put(&buf[i], form->byte[i]);
	buf[i - 1] |= (uint8_t)cc;
	for (i = 0; i < form->disp; i++)
		put(&buf[form->fixed + i], (uint8_t)(distance >> (8 * i)));
	/* Only behind a ret is there anything left: nothing must run on into it. */
	for (i += form->fixed; i < insn->len; i++)
		put(&buf[i], SHUNT_INT3);
	return insn->len;
}

int shunt_insn_encode_site(const struct shunt_insn *insn, uintptr_t ip, unsigned len,
			   uint8_t *bytes)
{
	uint8_t buf[SHUNT_INSN_MAX] = {0};
	int ret = shunt_insn_encode(insn, ip, buf);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < len && i < SHUNT_INSN_MAX; i++)
		put(&bytes[i], i < insn->len ? buf[i] : 0x90);
	return 0;
}

static bool matches(const struct form *form, const uint8_t *buf, size_t len)
{
	unsigned i;

	if (len < (size_t)form->fixed + form->disp)
		return false;
	for (i = 0; i + 1 < form->fixed; i++)
		if (buf[i] != form->byte[i])
			return false;
	if (form->op == SHUNT_OP_JCC)
		return (buf[i] & 0xf0) == form->byte[i];
	return buf[i] == form->byte[i];
}

/* A segment, which nothing below uses: none of it has access to memory. */
static bool is_segment_prefix(uint8_t byte)
{
	return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
	       byte == 0x65;
}

/*
 * Bytes of the operand at @modrm: modrm, sib, displacement. SDM volume 2, table 2-2; the answer
 * may be more than the @len bytes there are.
 */
static size_t operand_size(const uint8_t *modrm, size_t len)
{
	unsigned mod = modrm[0] >> 6, rm = modrm[0] & 7;
	size_t size = 1;

	if (mod == 3)
		return 1;
	if (rm == 4) {
		if (len < 2)
			return 2;
		rm = modrm[1] & 7;
		size = 2;
	}
	if (mod == 0)
		return size + (rm == 5 ? 4 : 0);
	return size + (mod == 1 ? 1 : 4);
}

/* Bytes of the nop at @buf, behind its prefixes: 90, or 0f 1f /0 with any operand; 0: none. */
static size_t nop_size(const uint8_t *buf, size_t len)
{
	size_t size;

	if (len >= 1 && buf[0] == 0x90)
		return 1;
	if (len < 3 || buf[0] != 0x0f || buf[1] != 0x1f || (buf[2] & 0x38))
		return 0;
	size = 2 + operand_size(buf + 2, len - 2);
	return size <= len ? size : 0;
}

/* xor %eax,%eax in either encoding. */
static bool is_xor(const uint8_t *buf, size_t len)
{
	return len >= 2 && (buf[0] == 0x31 || buf[0] == 0x33) && buf[1] == 0xc0;
}

/*
 * What is written with prefixes as one likes: nops, xor %eax,%eax, and the ret with a rep that
 * gcc wrote for old AMD CPUs. Of prefixes that change what they stand before, none: 66 makes
 * another xor, f3 a pause of the nop 90, rex another register. The length, 0 for another.
 */
static size_t decode_prefixed(const uint8_t *buf, size_t len, uint8_t *op)
{
	bool has_size = false;
	size_t n = 0, size;

	len = len < SHUNT_INSN_LONGEST ? len : SHUNT_INSN_LONGEST;
	if (len >= 2 && buf[0] == 0xf3 && buf[1] == 0xc3) {
		*op = SHUNT_OP_RET;
		return 2;
	}
	for (; n < len && (buf[n] == 0x66 || is_segment_prefix(buf[n])); n++)
		has_size |= buf[n] == 0x66;
	if (!has_size && is_xor(buf + n, len - n)) {
		*op = SHUNT_OP_RET0;
		return n + 2;
	}
	size = nop_size(buf + n, len - n);
	*op = SHUNT_OP_NOP;
	return size ? n + size : 0;
}

int shunt_insn_decode(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out)
{
	const struct form *form = forms;
	uint8_t op;
	size_t size;

	out->op = SHUNT_OP_NONE;
	out->len = 0;
	out->cc = 0;
	out->target = 0;

	size = decode_prefixed(buf, len, &op);
	if (size) {
		out->op = op;
		out->len = (uint8_t)size;
		return out->len;
	}
	while (!matches(form, buf, len))
		if (++form == forms + FORMS)
			return -SHUNT_EINVAL;

	out->op = form->op;
	out->len = (uint8_t)(form->fixed + form->disp);
	if (form->op == SHUNT_OP_JCC)
		out->cc = buf[form->fixed - 1] & 0x0f;
	if (form->disp) {
		uintptr_t distance = 0;

		for (unsigned i = 0; i < form->disp; i++)
			distance |= (uintptr_t)buf[form->fixed + i] << (8 * i);
		out->target = ip + out->len + sign_extend(distance, form->disp);
	}
	return out->len;
}

bool shunt_insn_reach(uintptr_t next, uintptr_t target)
{
	return fits(target - next, 4);
}
