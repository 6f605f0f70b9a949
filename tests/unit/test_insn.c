/* SPDX-License-Identifier: MIT */
/*
 * Encode and decode against Zydis: every form, every condition, both ends of
 * every displacement, and a few million random byte strings. The table below is
 * written from the SDM, not from insn.c, and is what Zydis' findings are held
 * against.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <Zydis/Zydis.h>

#include "arch/arch.h"
#include "core/error.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Bytes that an untouched buffer holds; no form has one of them. */
#define UNTOUCHED 0xa5

/* What Zydis should see in a form. */
struct form {
	uint8_t op;
	uint8_t len;
	uint8_t opcode; /* jcc: with cc = 0 */
	bool map_0f;
	int16_t modrm; /* -1: none */
	uint8_t sib;   /* bytes of it, which are then 0 */
	uint8_t disp;  /* bits of the displacement */
	uint8_t imm;   /* bits of the immediate, which is a distance */
	ZydisMnemonic mnemonic;
	const char *prefixes;
};

static const struct form forms[] = {
	{SHUNT_OP_CALL, 5, 0xe8, false, -1, 0, 0, 32, ZYDIS_MNEMONIC_CALL, ""},
	{SHUNT_OP_CALL, 6, 0xe8, false, -1, 0, 0, 32, ZYDIS_MNEMONIC_CALL, "\x67"},
	{SHUNT_OP_JMP, 2, 0xeb, false, -1, 0, 0, 8, ZYDIS_MNEMONIC_JMP, ""},
	{SHUNT_OP_JMP, 5, 0xe9, false, -1, 0, 0, 32, ZYDIS_MNEMONIC_JMP, ""},
	{SHUNT_OP_JCC, 2, 0x70, false, -1, 0, 0, 8, ZYDIS_MNEMONIC_INVALID, ""},
	{SHUNT_OP_JCC, 6, 0x80, true, -1, 0, 0, 32, ZYDIS_MNEMONIC_INVALID, ""},
	{SHUNT_OP_RET, 1, 0xc3, false, -1, 0, 0, 0, ZYDIS_MNEMONIC_RET, ""},
	{SHUNT_OP_NOP, 1, 0x90, false, -1, 0, 0, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 2, 0x90, false, -1, 0, 0, 0, ZYDIS_MNEMONIC_NOP, "\x66"},
	{SHUNT_OP_NOP, 3, 0x1f, true, 0x00, 0, 0, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 4, 0x1f, true, 0x40, 0, 8, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 5, 0x1f, true, 0x44, 1, 8, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 6, 0x1f, true, 0x44, 1, 8, 0, ZYDIS_MNEMONIC_NOP, "\x66"},
	{SHUNT_OP_NOP, 7, 0x1f, true, 0x80, 0, 32, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 8, 0x1f, true, 0x84, 1, 32, 0, ZYDIS_MNEMONIC_NOP, ""},
	{SHUNT_OP_NOP, 9, 0x1f, true, 0x84, 1, 32, 0, ZYDIS_MNEMONIC_NOP, "\x66"},
	{SHUNT_OP_INT3, 1, 0xcc, false, -1, 0, 0, 0, ZYDIS_MNEMONIC_INT3, ""},
	{SHUNT_OP_RET0, 5, 0x31, false, 0xc0, 0, 0, 0, ZYDIS_MNEMONIC_XOR, "\x2e\x2e\x2e"},
	{SHUNT_OP_RET0, 6, 0x31, false, 0xc0, 0, 0, 0, ZYDIS_MNEMONIC_XOR, "\x2e\x2e\x2e\x2e"},
	{SHUNT_OP_CALL_MEM, 6, 0xff, false, 0x15, 0, 32, 0, ZYDIS_MNEMONIC_CALL, ""},
	{SHUNT_OP_JMP_MEM, 6, 0xff, false, 0x25, 0, 32, 0, ZYDIS_MNEMONIC_JMP, ""},
	{SHUNT_OP_TEST, 2, 0xa8, false, -1, 0, 0, 8, ZYDIS_MNEMONIC_TEST, ""},
	{SHUNT_OP_TEST, 5, 0xa9, false, -1, 0, 0, 32, ZYDIS_MNEMONIC_TEST, ""},
};

static const ZydisMnemonic jcc_mnemonics[16] = {
	ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
	ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
	ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
	ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE,
};

static const uintptr_t addresses[] = {
	0x401000,
	0x7fffdeadbee1,
	0xffffffff81000003,
	0x0,
	0x10,
	0x7fffffff,
	0x80000000,
	0x100000000,
	0xfffffffffffffff0,
	0x7fffffffffffff00,
	0x8000000000000000,
};

static ZydisDecoder decoder;
static uint8_t *guard; /* first byte of a page that must not be touched */
static unsigned long checks;

static bool has_disp(const struct form *form)
{
	return form->imm || form->op == SHUNT_OP_CALL_MEM || form->op == SHUNT_OP_JMP_MEM;
}

static unsigned conditions(const struct form *form)
{
	return form->op == SHUNT_OP_JCC ? 16 : 1;
}

static const struct form *find_form(const struct shunt_insn *insn)
{
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (forms[i].op == insn->op && forms[i].len == insn->len)
			return &forms[i];
	return NULL;
}

static struct shunt_insn insn_of(const struct form *form, unsigned cc, uintptr_t target)
{
	return (struct shunt_insn){
		.op = form->op, .len = form->len, .cc = (uint8_t)cc, .target = target};
}

static bool same_prefixes(const ZydisDecodedInstruction *seen, const char *prefixes)
{
	if (seen->raw.prefix_count != strlen(prefixes))
		return false;
	for (size_t i = 0; i < seen->raw.prefix_count; i++)
		if (seen->raw.prefixes[i].value != (uint8_t)prefixes[i])
			return false;
	return true;
}

static bool same_operands(const ZydisDecodedInstruction *seen, const struct form *form)
{
	int modrm = -1, sib = 0;

	if (seen->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		modrm = seen->raw.modrm.mod << 6 | seen->raw.modrm.reg << 3 | seen->raw.modrm.rm;
	if (seen->attributes & ZYDIS_ATTRIB_HAS_SIB)
		sib = seen->raw.sib.scale << 6 | seen->raw.sib.index << 3 | seen->raw.sib.base;
	return modrm == form->modrm && sib == 0 &&
	       !(seen->attributes & ZYDIS_ATTRIB_HAS_SIB) == !form->sib &&
	       seen->raw.disp.size == form->disp && seen->raw.imm[0].size == form->imm &&
	       (has_disp(form) || seen->raw.disp.value == 0);
}

/* The off form of a call or jmp: its immediate is the distance of theirs. */
static const char *wrong_test(const struct shunt_insn *want, uintptr_t ip,
			      const ZydisDecodedOperand *op)
{
	int64_t distance = want->len == 2 ? (int8_t)op[1].imm.value.u : (int32_t)op[1].imm.value.u;

	if (op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    op[0].reg.value != (want->len == 2 ? ZYDIS_REGISTER_AL : ZYDIS_REGISTER_EAX))
		return "register";
	return ip + want->len + (uintptr_t)distance == want->target ? NULL : "target";
}

/*
 * How what Zydis reads in the @len bytes at @buf, which stand at @ip, differs
 * from @want; NULL where it does not.
 */
static const char *disagreement(const struct shunt_insn *want, uintptr_t ip, const uint8_t *buf,
				size_t len)
{
	const struct form *form = find_form(want);
	ZydisDecodedInstruction seen;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisMnemonic mnemonic;
	ZyanU64 target;

	checks++;
	if (!form)
		return "form";
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, buf, len, &seen, operands)))
		return "not an instruction";
	mnemonic = form->op == SHUNT_OP_JCC ? jcc_mnemonics[want->cc] : form->mnemonic;
	if (seen.mnemonic != mnemonic)
		return "mnemonic";
	if (seen.length != form->len)
		return "length";
	if (seen.opcode != (form->opcode | want->cc) ||
	    seen.opcode_map != (form->map_0f ? ZYDIS_OPCODE_MAP_0F : ZYDIS_OPCODE_MAP_DEFAULT))
		return "opcode";
	if (!same_prefixes(&seen, form->prefixes))
		return "prefixes";
	if (!same_operands(&seen, form))
		return "operands";
	if (!has_disp(form))
		return want->target == 0 ? NULL : "target of an instruction without one";
	if (form->op == SHUNT_OP_TEST)
		return wrong_test(want, ip, operands);
	if (!ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&seen, &operands[0], ip, &target)))
		return "no target";
	return target == want->target ? NULL : "target";
}

/* The same for what encode wrote: a ret may have a filling behind it. */
static const char *encoding_disagreement(const struct shunt_insn *want, uintptr_t ip,
					 const uint8_t *buf)
{
	static const struct shunt_insn int3 = {.op = SHUNT_OP_INT3, .len = 1};
	struct shunt_insn first = *want;

	if (want->op == SHUNT_OP_RET)
		first.len = 1;
	for (size_t i = first.len; i < want->len; i++)
		if (disagreement(&int3, ip + i, buf + i, want->len - i))
			return "filling";
	return disagreement(&first, ip, buf, want->len);
}

static bool same_insn(const struct shunt_insn *a, const struct shunt_insn *b)
{
	return a->op == b->op && a->len == b->len && a->cc == b->cc && a->target == b->target;
}

/* @len bytes that end where the guard page begins. */
static uint8_t *at_guard(const uint8_t *buf, size_t len)
{
	if (len)
		memcpy(guard - len, buf, len);
	return guard - len;
}

static void expect_encodes(const struct shunt_insn *insn, uintptr_t ip)
{
	uint8_t buf[16];
	struct shunt_insn first = *insn, back;
	const char *why;
	int ret;

	memset(buf, UNTOUCHED, sizeof(buf));
	ret = shunt_insn_encode(insn, ip, buf);
	if (ret != insn->len)
		fail_msg("op %u len %u cc %u ip %#lx target %#lx: encode returned %d", insn->op,
			 insn->len, insn->cc, ip, insn->target, ret);
	why = encoding_disagreement(insn, ip, buf);
	if (why)
		fail_msg("op %u len %u cc %u ip %#lx target %#lx: encode and Zydis disagree: %s",
			 insn->op, insn->len, insn->cc, ip, insn->target, why);
	for (size_t i = insn->len; i < sizeof(buf); i++)
		assert_int_equal(buf[i], UNTOUCHED);

	if (insn->op == SHUNT_OP_RET)
		first.len = 1;
	memset(&back, UNTOUCHED, sizeof(back));
	ret = shunt_insn_decode(at_guard(buf, insn->len), insn->len, ip, &back);
	checks++;
	if (ret != first.len || !same_insn(&first, &back))
		fail_msg("op %u len %u cc %u ip %#lx target %#lx: does not come back", insn->op,
			 insn->len, insn->cc, ip, insn->target);
}

static void expect_refuses(const struct shunt_insn *insn, uintptr_t ip, int error)
{
	uint8_t buf[16];
	int ret;

	memset(buf, UNTOUCHED, sizeof(buf));
	ret = shunt_insn_encode(insn, ip, buf);
	checks++;
	if (ret != error)
		fail_msg("op %u len %u cc %u ip %#lx target %#lx: %d, not %d", insn->op, insn->len,
			 insn->cc, ip, insn->target, ret, error);
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], UNTOUCHED);
}

static void expect_unknown(const uint8_t *buf, size_t len)
{
	struct shunt_insn out;

	memset(&out, UNTOUCHED, sizeof(out));
	checks++;
	assert_int_equal(shunt_insn_decode(at_guard(buf, len), len, 0x401000, &out), -SHUNT_EINVAL);
	assert_int_equal(out.op, SHUNT_OP_NONE);
}

static void forms_and_conditions(void **state)
{
	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++)
		for (size_t a = 0; a < ARRAY_SIZE(addresses); a++)
			for (unsigned cc = 0; cc < conditions(&forms[f]); cc++) {
				uintptr_t next = addresses[a] + forms[f].len;
				uintptr_t target = has_disp(&forms[f]) ? next + 0x42 : 0;
				struct shunt_insn insn = insn_of(&forms[f], cc, target);

				expect_encodes(&insn, addresses[a]);
			}
}

/* A target or a condition that means nothing to a form is no reason to refuse. */
static void unused_fields(void **state)
{
	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++) {
		struct shunt_insn plain = insn_of(&forms[f], 0, 0x401080), noisy = plain;
		uint8_t a[SHUNT_INSN_MAX], b[SHUNT_INSN_MAX];

		if (forms[f].op != SHUNT_OP_JCC)
			noisy.cc = 0xff;
		if (!has_disp(&forms[f]))
			noisy.target = UINTPTR_MAX / 3;
		checks++;
		assert_int_equal(shunt_insn_encode(&plain, 0x401000, a), plain.len);
		assert_int_equal(shunt_insn_encode(&noisy, 0x401000, b), plain.len);
		assert_memory_equal(a, b, plain.len);
	}
}

/*
 * What is on and what is off differ in the first byte alone, at any distance; and a ret that
 * keeps the displacement of a jmp is read as a ret.
 */
static void pairs_differ_in_one_byte(void **state)
{
	static const struct shunt_insn pairs[][2] = {
		{{.op = SHUNT_OP_JMP, .len = 2}, {.op = SHUNT_OP_TEST, .len = 2}},
		{{.op = SHUNT_OP_JMP, .len = 5}, {.op = SHUNT_OP_TEST, .len = 5}},
		{{.op = SHUNT_OP_CALL, .len = 5}, {.op = SHUNT_OP_TEST, .len = 5}},
		{{.op = SHUNT_OP_JMP, .len = 5}, {.op = SHUNT_OP_RET, .len = 5}},
	};
	static const int32_t distances[] = {0, 1, 0x7f, -0x80, 0x12345678, INT32_MAX, INT32_MIN};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		for (size_t d = 0; d < ARRAY_SIZE(distances); d++) {
			struct shunt_insn on = pairs[i][0], off = pairs[i][1], back;
			uint8_t a[SHUNT_INSN_MAX], b[SHUNT_INSN_MAX];

			on.target = off.target = 0x7fff12345678 + on.len + (uintptr_t)distances[d];
			if (on.len == 2 && distances[d] != (int8_t)distances[d])
				continue;
			assert_int_equal(shunt_insn_encode(&on, 0x7fff12345678, a), on.len);
			assert_int_equal(shunt_insn_encode(&off, 0x7fff12345678, b), on.len);
			assert_int_not_equal(a[0], b[0]);
			assert_memory_equal(a + 1, b + 1, on.len - 1u);
			assert_true(shunt_insn_decode(b, on.len, 0x7fff12345678, &back) > 0);
			assert_int_equal(back.op, off.op);
			checks++;
		}
}

/* Out of the jmp's reach is out of the ret's. */
static void ret_of_a_far_jmp(void **state)
{
	struct shunt_insn ret = {.op = SHUNT_OP_RET, .len = 5, .target = 0x401005 + 0x80000000ull};

	(void)state;
	expect_refuses(&ret, 0x401000, -SHUNT_ERANGE);
}

static void ret_filling(void **state)
{
	struct shunt_insn insn = {.op = SHUNT_OP_RET};

	(void)state;
	for (insn.len = 1; insn.len <= SHUNT_INSN_MAX; insn.len++)
		expect_encodes(&insn, 0x401000);
}

static void limits_of(const struct form *form, uintptr_t ip, unsigned cc)
{
	bool rel8 = form->imm == 8;
	int64_t lowest = rel8 ? INT8_MIN : INT32_MIN, highest = rel8 ? INT8_MAX : INT32_MAX;
	const int64_t in[] = {lowest, lowest + 1, -1, 0, 1, highest - 1, highest};
	const int64_t out[] = {lowest - 1, highest + 1, INT64_MIN, INT64_MAX};
	uintptr_t next = ip + form->len;

	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		struct shunt_insn insn = insn_of(form, cc, next + (uintptr_t)in[i]);

		expect_encodes(&insn, ip);
		if (!rel8)
			assert_true(shunt_insn_reach(next, insn.target));
	}
	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		struct shunt_insn insn = insn_of(form, cc, next + (uintptr_t)out[i]);

		expect_refuses(&insn, ip, -SHUNT_ERANGE);
		if (!rel8)
			assert_false(shunt_insn_reach(next, insn.target));
	}
}

static void displacement_limits(void **state)
{
	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++)
		for (size_t a = 0; a < ARRAY_SIZE(addresses); a++)
			for (unsigned cc = 0; has_disp(&forms[f]) && cc < conditions(&forms[f]);
			     cc++)
				limits_of(&forms[f], addresses[a], cc);
}

/* Every op and length that a byte can hold, and every condition. */
static void bad_forms(void **state)
{
	(void)state;
	for (unsigned op = 0; op < 256; op++)
		for (unsigned len = 0; len < 256; len++) {
			struct shunt_insn insn = {
				.op = (uint8_t)op, .len = (uint8_t)len, .target = 0x401010};

			if (find_form(&insn))
				continue;
			if (op == SHUNT_OP_RET && len >= 1 && len <= SHUNT_INSN_MAX)
				continue;
			expect_refuses(&insn, 0x401000, -SHUNT_EINVAL);
			insn.target = UINTPTR_MAX / 2; /* no form goes before no reach */
			expect_refuses(&insn, 0x401000, -SHUNT_EINVAL);
		}
	for (unsigned cc = 16; cc < 256; cc++) {
		struct shunt_insn insn = {
			.op = SHUNT_OP_JCC, .cc = (uint8_t)cc, .target = 0x401010};

		insn.len = 2;
		expect_refuses(&insn, 0x401000, -SHUNT_EINVAL);
		insn.len = 6;
		expect_refuses(&insn, 0x401000, -SHUNT_EINVAL);
	}
}

static void truncated(void **state)
{
	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++)
		for (unsigned cc = 0; cc < conditions(&forms[f]); cc++) {
			struct shunt_insn insn = insn_of(&forms[f], cc, 0x401010);
			uint8_t buf[SHUNT_INSN_MAX];

			assert_int_equal(shunt_insn_encode(&insn, 0x401000, buf), insn.len);
			for (size_t len = 0; len < insn.len; len++)
				expect_unknown(buf, len);
		}
}

/* Neighbours of the forms that a careless decode would take for one. */
static void lookalikes(void **state)
{
	static const struct {
		uint8_t len, byte[10];
	} cases[] = {
		{6, {0x66, 0xe8, 0, 0, 0, 0}},       /* operand size, not address size */
		{6, {0x48, 0xe8, 0, 0, 0, 0}},       /* rex.w call */
		{7, {0x67, 0x67, 0xe8, 0, 0, 0, 0}}, /* one prefix too many */
		{6, {0x67, 0xe9, 0, 0, 0, 0}},       /* only the call has the prefix */
		{7, {0x67, 0x0f, 0x84, 0, 0, 0, 0}}, /* so for jcc */
		{3, {0x2e, 0x74, 0}},                /* branch hint */
		{4, {0x66, 0xa9, 0, 0}},             /* test $imm16,%ax */
		{6, {0x48, 0xa9, 0, 0, 0, 0}},       /* test $imm32,%rax */
		{3, {0x2e, 0xa8, 0}},                /* test with a prefix */
		{3, {0xf6, 0xc0, 0}},                /* test $imm8,%al otherwise */
		{1, {0xcb}},                         /* far ret */
		{3, {0xc2, 8, 0}},                   /* ret $8 */
		{2, {0xf2, 0xc3}},                   /* bnd ret */
		{2, {0x66, 0xc3}},                   /* ret of 16 bits */
		{3, {0xf3, 0xf3, 0xc3}},             /* rep rep ret */
		{3, {0x2e, 0xf3, 0xc3}},             /* another prefix before it */
		{4, {0xf3, 0xc2, 0, 0}},             /* rep ret $0 */
		{2, {0xf3, 0x90}},                   /* pause */
		{3, {0x66, 0xf3, 0x90}},             /* pause, another prefix before it */
		{3, {0xf3, 0x66, 0x90}},             /* or behind it */
		{2, {0xf0, 0x90}},                   /* lock nop: undefined */
		{2, {0x41, 0x90}},                   /* xchg %r8d,%eax */
		{3, {0x66, 0x41, 0x90}},             /* xchg %r8w,%ax */
		{2, {0x66, 0x91}},                   /* xchg %cx,%ax */
		{2, {0xcd, 0x03}},                   /* int $3 in two bytes */
		{4, {0xf3, 0x0f, 0x1e, 0xfa}},       /* endbr64 */
		{3, {0x0f, 0x1f, 0xc8}},             /* reserved: /1 */
		{3, {0x0f, 0x1e, 0xc0}},             /* reserved: a nop to CPUs of today */
		{3, {0x0f, 0x18, 0x00}},             /* prefetch */
		{4, {0xf3, 0x0f, 0x1f, 0x00}},       /* a prefix that may come to mean something */
		{9, {0x66, 0x2e, 0x0f, 0x1f, 0x84}}, /* 10 bytes of nop, cut off */
		{3, {0x66, 0x31, 0xc0}},             /* xor %ax,%ax */
		{4, {0x66, 0x2e, 0x31, 0xc0}},       /* so with another prefix */
		{4, {0x2e, 0x66, 0x33, 0xc0}},       /* and in the other order */
		{3, {0x41, 0x31, 0xc0}},             /* xor %eax,%r8d */
		{2, {0x30, 0xc0}},                   /* xor %al,%al */
		{2, {0x31, 0x00}},                   /* xor %eax,(%rax) */
		{2, {0x29, 0xc0}},                   /* sub %eax,%eax: another AF */
		{5, {0x2e, 0x2e, 0x2e, 0x33, 0xc1}}, /* of two registers */
		{5, {0x2e, 0x2e, 0x2e, 0x31, 0xc9}}, /* another register */
		{6, {0xff, 0x1d, 0, 0, 0, 0}},       /* far call */
		{6, {0xff, 0x2d, 0, 0, 0, 0}},       /* far jmp */
		{7, {0xff, 0x14, 0x25, 0, 0, 0, 0}}, /* call *absolute */
		{2, {0xff, 0xd0}},                   /* call *%rax */
		{2, {0xe3, 0}},                      /* jrcxz */
		{5, {0, 0, 0, 0, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_unknown(cases[i].byte, cases[i].len);
}

/* What clang 14 writes for -fpatchable-function-entry=4 to 9. */
static const uint8_t clang_nops[][SHUNT_INSN_MAX] = {
	{0x0f, 0x1f, 0x40, 0x08},
	{0x0f, 0x1f, 0x44, 0x00, 0x08},
	{0x66, 0x0f, 0x1f, 0x44, 0x00, 0x08},
	{0x0f, 0x1f, 0x80, 0x00, 0x02, 0x00, 0x00},
	{0x0f, 0x1f, 0x84, 0x00, 0x00, 0x02, 0x00, 0x00},
	{0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x02, 0x00, 0x00},
};

/* Known as nops, and to Zydis too; cut off they are not; encode writes the others. */
static void nops_of_clang(void **state)
{
	(void)state;
	for (size_t len = 4; len < 4 + ARRAY_SIZE(clang_nops); len++) {
		const uint8_t *nop = clang_nops[len - 4];
		struct shunt_insn insn;
		ZydisDecodedInstruction seen;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		uint8_t other[SHUNT_INSN_MAX];

		assert_int_equal(shunt_insn_decode(at_guard(nop, len), len, 0x401000, &insn),
				 (int)len);
		assert_true(insn.op == SHUNT_OP_NOP && insn.len == len && !insn.target);
		assert_true(
			ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, nop, len, &seen, operands)));
		assert_true(seen.mnemonic == ZYDIS_MNEMONIC_NOP && seen.length == len);
		assert_int_equal(shunt_insn_encode(&insn, 0x401000, other), (int)len);
		assert_memory_not_equal(other, nop, len);
		for (size_t cut = 0; cut < len; cut++)
			expect_unknown(nop, cut);
	}
}

static uint64_t random64(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 0x2545f4914f6cdd1d;
}

static void random_bytes(uint8_t buf[16])
{
	uint64_t words[2] = {random64(), random64()};

	memcpy(buf, words, sizeof(words));
}

/* A form with a random displacement, at times with one bit wrong. */
static void random_form(uint8_t buf[16])
{
	uint64_t dice = random64();
	const struct form *form = &forms[(dice & 0xffff) % ARRAY_SIZE(forms)];
	uintptr_t distance =
		form->imm == 8 ? (uintptr_t)(int8_t)(dice >> 16) : (uintptr_t)(int32_t)(dice >> 16);
	unsigned cc = (unsigned)(dice >> 48) % conditions(form);
	struct shunt_insn insn = insn_of(form, cc, distance);

	random_bytes(buf);
	if (shunt_insn_encode(&insn, -(uintptr_t)form->len, buf) < 0)
		fail_msg("op %u len %u: a good form was refused", insn.op, insn.len);
	if (dice >> 63)
		buf[(dice >> 52 & 0xff) % form->len] ^= (uint8_t)(1 << (dice >> 60 & 7));
}

static bool has_only(const ZydisDecodedInstruction *seen, const char *prefixes)
{
	for (size_t i = 0; i < seen->raw.prefix_count; i++)
		if (!strchr(prefixes, seen->raw.prefixes[i].value) || !seen->raw.prefixes[i].value)
			return false;
	return true;
}

#define SEGMENTS "\x26\x2e\x36\x3e\x64\x65"

/*
 * What Zydis sees at @buf, if that is a nop, xor %eax,%eax or ret with such prefixes as arch.h
 * says that decode knows; SHUNT_OP_NONE: it is another instruction. In @size its length.
 */
static uint8_t prefixed_op(const uint8_t *buf, size_t len, size_t *size)
{
	ZydisDecodedInstruction seen;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, buf, len, &seen, op)) ||
	    seen.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return SHUNT_OP_NONE;
	*size = seen.length;
	if (seen.mnemonic == ZYDIS_MNEMONIC_NOP && has_only(&seen, "\x66" SEGMENTS) &&
	    (seen.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT
		     ? seen.opcode == 0x90
		     : seen.opcode == 0x1f && seen.raw.modrm.reg == 0))
		return SHUNT_OP_NOP;
	if (seen.mnemonic == ZYDIS_MNEMONIC_XOR && has_only(&seen, SEGMENTS) &&
	    op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && op[1].type == op[0].type &&
	    op[0].reg.value == ZYDIS_REGISTER_EAX && op[1].reg.value == ZYDIS_REGISTER_EAX)
		return SHUNT_OP_RET0;
	if (seen.mnemonic == ZYDIS_MNEMONIC_RET && seen.opcode == 0xc3 && seen.length <= 2 &&
	    has_only(&seen, "\xf3"))
		return SHUNT_OP_RET;
	return SHUNT_OP_NONE;
}

/* Whether Zydis sees an instruction of which arch.h says that decode knows it. */
static bool should_be_known(const uint8_t *buf, size_t len)
{
	ZydisDecodedInstruction seen;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	size_t size;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, buf, len, &seen, op)))
		return false;
	if (prefixed_op(buf, len, &size) != SHUNT_OP_NONE)
		return true;
	if (seen.raw.prefix_count || seen.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return false;
	if (seen.mnemonic == ZYDIS_MNEMONIC_CALL || seen.mnemonic == ZYDIS_MNEMONIC_JMP)
		return (op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op[0].imm.is_relative) ||
		       (op[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			op[0].mem.base == ZYDIS_REGISTER_RIP &&
			seen.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR);
	for (size_t i = 0; i < ARRAY_SIZE(jcc_mnemonics); i++)
		if (seen.mnemonic == jcc_mnemonics[i])
			return true;
	if (seen.mnemonic == ZYDIS_MNEMONIC_TEST)
		return seen.opcode == 0xa8 || seen.opcode == 0xa9;
	return seen.mnemonic == ZYDIS_MNEMONIC_INT3;
}

/* Decode @len bytes, hold the answer against Zydis and encode; the op found. */
static uint8_t agree(const uint8_t *bytes, size_t len, uintptr_t ip)
{
	const uint8_t *buf = at_guard(bytes, len);
	struct shunt_insn insn;
	uint8_t again[SHUNT_INSN_MAX];
	const char *why = NULL;
	int ret = shunt_insn_decode(buf, len, ip, &insn);
	size_t size = 0;
	uint8_t op = prefixed_op(buf, len, &size);

	checks++;
	if (ret < 0) {
		if (ret != -SHUNT_EINVAL || insn.op != SHUNT_OP_NONE)
			why = "unknown, but not so reported";
		else if (should_be_known(buf, len))
			why = "decode does not know it";
	} else if (op != SHUNT_OP_NONE) {
		if (insn.op != op || insn.len != size || (size_t)ret != size || insn.target)
			why = "not taken for the nop, xor or ret that it is";
	} else {
		why = ret == insn.len ? disagreement(&insn, ip, buf, len) : "length returned";
		if (!why && (shunt_insn_encode(&insn, ip, again) != ret ||
			     memcmp(again, buf, (size_t)ret) != 0))
			why = "encode writes something else";
	}
	if (why)
		fail_msg("%02x %02x %02x %02x %02x %02x %02x %02x %02x (%zu) at %#lx: %s", bytes[0],
			 bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
			 bytes[8], len, ip, why);
	return insn.op;
}

/*
 * Every operand of 0f 1f, and the other opcodes that take prefixes, behind each choice of up to
 * three prefixes, and behind as many of one as there is room for; also cut off.
 */
static void prefixes_and_operands(void **state)
{
	static const uint8_t prefixes[] = {0x66, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
					   0x67, 0xf0, 0xf2, 0xf3, 0x40, 0x41, 0x48};
	static const uint8_t opcodes[][2] = {{0x90}, {0x91}, {0x0f, 0x1f}, {0x0f, 0x1e},
					     {0x31}, {0x33}, {0x32},       {0xc3}};
	unsigned long found[SHUNT_OP_TEST + 1] = {0};
	uint8_t buf[16];

	(void)state;
	for (unsigned choice = 0; choice < 15 * 15 * 15; choice++)
		for (size_t i = 0; i < 40 * ARRAY_SIZE(opcodes); i++) {
			const uint8_t *opcode = opcodes[i % ARRAY_SIZE(opcodes)];
			size_t n = 0;

			random_bytes(buf);
			for (unsigned rest = choice; rest; rest /= 15)
				if (rest % 15)
					buf[n++] = prefixes[rest % 15 - 1];
			buf[n++] = opcode[0];
			if (opcode[1])
				buf[n++] = opcode[1];
			if (i & 8)
				buf[n] = opcode[1] ? buf[n] & 0xc7 : 0xc0;
			found[agree(buf, i & 16 ? 15 : random64() % 16, 0x401000)]++;
		}
	for (size_t n = 0; n < 15; n++)
		for (unsigned modrm = 0; modrm < 256 * 3; modrm++)
			for (size_t p = 0; p < 7; p++) {
				random_bytes(buf);
				memset(buf, prefixes[p], n);
				memcpy(buf + n, opcodes[modrm >> 8 ? 2 * (modrm >> 8) : 0], 2);
				if (n < 14 && modrm >> 8 == 1)
					buf[n + 2] = (uint8_t)modrm;
				else if (n < 14 && modrm >> 8 == 2)
					buf[n + 1] = (uint8_t)modrm;
				found[agree(buf, 15, 0x401000)]++;
			}
	assert_true(found[SHUNT_OP_NOP] > 10000 && found[SHUNT_OP_RET0] > 1000 &&
		    found[SHUNT_OP_RET] > 100 && found[SHUNT_OP_NONE] > 10000);
}

/* Negative control: what Zydis is asked tells these from their neighbours. */
static void neighbours_are_told_apart(void **state)
{
	static const struct {
		uint8_t op, len, byte[8];
	} cases[] = {
		{SHUNT_OP_NOP, 4, {0x66, 0x66, 0x66, 0x90}},
		{SHUNT_OP_NONE, 2, {0xf3, 0x90}},
		{SHUNT_OP_NONE, 2, {0x41, 0x90}},
		{SHUNT_OP_NOP, 4, {0x66, 0x0f, 0x1f, 0x00}},
		{SHUNT_OP_NONE, 4, {0x66, 0x0f, 0x1f, 0x40}},
		{SHUNT_OP_NONE, 4, {0x66, 0x0f, 0x1f, 0x08}},
		{SHUNT_OP_RET0, 2, {0x33, 0xc0}},
		{SHUNT_OP_NONE, 3, {0x66, 0x33, 0xc0}},
		{SHUNT_OP_RET, 2, {0xf3, 0xc3}},
		{SHUNT_OP_NONE, 2, {0xf2, 0xc3}},
	};
	size_t size;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(prefixed_op(cases[i].byte, cases[i].len, &size), cases[i].op);
}

#define SWEEP 2000000

static void agreement_sweep(void **state)
{
	unsigned long found[SHUNT_OP_TEST + 1] = {0};
	uint8_t buf[16];

	(void)state;
	for (long i = 0; i < SWEEP; i++) {
		uint64_t dice = random64();

		random_bytes(buf);
		found[agree(buf, dice % 16, random64())]++;
		random_form(buf);
		found[agree(buf, (dice >> 32) % 16, random64())]++;
	}
	/* Else the sweep would have swept nothing. */
	for (size_t op = 0; op < ARRAY_SIZE(found); op++) {
		print_message("sweep: op %zu seen %lu times\n", op, found[op]);
		assert_true(found[op] > SWEEP / 200);
	}
}

/*
 * Negative control: flip each bit of each encoding, one at a time, and the
 * comparison that all tests above rely on must see it every time.
 */
static void corruption_is_seen(void **state)
{
	unsigned long flips = 0;

	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++)
		for (unsigned cc = 0; cc < conditions(&forms[f]); cc++) {
			uintptr_t target = has_disp(&forms[f]) ? 0x401010 : 0;
			struct shunt_insn insn = insn_of(&forms[f], cc, target);
			uint8_t buf[16] = {0};

			assert_int_equal(shunt_insn_encode(&insn, 0x401000, buf), insn.len);
			assert_null(encoding_disagreement(&insn, 0x401000, buf));
			for (unsigned bit = 0; bit < 8U * insn.len; bit++) {
				buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
				if (!encoding_disagreement(&insn, 0x401000, buf))
					fail_msg("op %u len %u cc %u: bit %u flipped unseen",
						 insn.op, insn.len, cc, bit);
				buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
				flips++;
			}
		}
	print_message("control: %lu flipped bits, all seen\n", flips);
}

/* The same for a wrong expectation, and for the filling of a ret. */
static void wrong_expectation_is_seen(void **state)
{
	struct shunt_insn jcc = {.op = SHUNT_OP_JCC, .len = 6, .cc = 4, .target = 0x401010};
	struct shunt_insn ret = {.op = SHUNT_OP_RET, .len = 5}, wrong;
	uint8_t buf[16] = {0};

	(void)state;
	assert_int_equal(shunt_insn_encode(&jcc, 0x401000, buf), 6);
	assert_null(encoding_disagreement(&jcc, 0x401000, buf));
	wrong = jcc;
	wrong.cc = 5;
	assert_string_equal(encoding_disagreement(&wrong, 0x401000, buf), "mnemonic");
	wrong = jcc;
	wrong.target++;
	assert_string_equal(encoding_disagreement(&wrong, 0x401000, buf), "target");
	assert_string_equal(encoding_disagreement(&jcc, 0x401001, buf), "target");

	assert_int_equal(shunt_insn_encode(&ret, 0x401000, buf), 5);
	assert_null(encoding_disagreement(&ret, 0x401000, buf));
	for (size_t i = 1; i < 5; i++) {
		buf[i] = 0x90;
		assert_string_equal(encoding_disagreement(&ret, 0x401000, buf), "filling");
		buf[i] = SHUNT_INT3;
	}
}

static int setup(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *area =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (area == MAP_FAILED || mprotect(area + page, page, PROT_NONE) != 0)
		return -1;
	guard = area + page;
	return ZYAN_SUCCESS(
		       ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))
		       ? 0
		       : -1;
}

static int teardown(void **state)
{
	(void)state;
	print_message("%lu checks\n", checks);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_and_conditions),
		cmocka_unit_test(unused_fields),
		cmocka_unit_test(ret_filling),
		cmocka_unit_test(pairs_differ_in_one_byte),
		cmocka_unit_test(ret_of_a_far_jmp),
		cmocka_unit_test(displacement_limits),
		cmocka_unit_test(bad_forms),
		cmocka_unit_test(truncated),
		cmocka_unit_test(lookalikes),
		cmocka_unit_test(nops_of_clang),
		cmocka_unit_test(prefixes_and_operands),
		cmocka_unit_test(neighbours_are_told_apart),
		cmocka_unit_test(agreement_sweep),
		cmocka_unit_test(corruption_is_seen),
		cmocka_unit_test(wrong_expectation_is_seen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
