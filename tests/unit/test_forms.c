/* SPDX-License-Identifier: MIT */
/*
 * That no form is forgotten: each op of arch.h can be encoded in the lengths that it is to have and
 * in no other, is decoded as what it was, and is emulated; each kind of site has a length and an
 * instruction. An op or a kind that is new has no row in the tables here, and fails.
 *
 * Whether the bytes and effects are the right ones is for test_insn.c and test_emulate.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "core/site.h"

/* What is asked; negative controls put others in their place. */
struct cpu {
	int (*encode)(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX]);
	int (*decode)(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out);
	bool (*emulate)(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn);
	unsigned nr_ops, nr_kinds;
};

static const struct cpu cpu = {shunt_insn_encode, shunt_insn_decode, shunt_emulate, SHUNT_NR_OPS,
			       SHUNT_NR_KINDS};

/* The lengths that an op is written in, by a bit each. */
#define LEN(n)        (1u << (n))
#define UP_TO_9       0x3feu
#define NR_OPS_HERE   (sizeof(lengths) / sizeof(lengths[0]))
#define NR_KINDS_HERE (sizeof(kinds) / sizeof(kinds[0]))

static const unsigned lengths[] = {
	[SHUNT_OP_NONE] = 0,
	[SHUNT_OP_CALL] = LEN(5) | LEN(6),
	[SHUNT_OP_JMP] = LEN(2) | LEN(5),
	[SHUNT_OP_JCC] = LEN(2) | LEN(6),
	[SHUNT_OP_RET] = UP_TO_9, /* filled up */
	[SHUNT_OP_NOP] = UP_TO_9,
	[SHUNT_OP_INT3] = LEN(1),
	[SHUNT_OP_RET0] = LEN(5) | LEN(6),
	[SHUNT_OP_CALL_MEM] = LEN(6),
	[SHUNT_OP_JMP_MEM] = LEN(6),
	[SHUNT_OP_TEST] = LEN(2) | LEN(5),
};

/* An instruction of each kind of site, as the compiler or an update leaves it. */
static const struct {
	uint8_t op, len;
} kinds[] = {
	[SHUNT_KIND_CALL] = {SHUNT_OP_CALL, 5},   [SHUNT_KIND_CALL_GOT] = {SHUNT_OP_CALL_MEM, 6},
	[SHUNT_KIND_JMP] = {SHUNT_OP_JMP, 5},     [SHUNT_KIND_JMP_GOT] = {SHUNT_OP_JMP_MEM, 6},
	[SHUNT_KIND_JCC] = {SHUNT_OP_JCC, 6},     [SHUNT_KIND_BRANCH] = {SHUNT_OP_JMP, 5},
	[SHUNT_KIND_BRANCH2] = {SHUNT_OP_JMP, 2},
};

static uintptr_t slot = 0x5050505050; /* where a call or jmp through it leads */
static uintptr_t stack[4];
static char wrong[128];

static const char *say(const char *what, unsigned op, unsigned len)
{
	(void)snprintf(wrong, sizeof(wrong), "%s: op %u, %u bytes", what, op, len);
	return wrong;
}

static bool has_target(unsigned op)
{
	return op == SHUNT_OP_CALL || op == SHUNT_OP_JMP || op == SHUNT_OP_JCC ||
	       op == SHUNT_OP_TEST || op == SHUNT_OP_CALL_MEM || op == SHUNT_OP_JMP_MEM;
}

static struct shunt_insn insn_at(uintptr_t ip, unsigned op, unsigned len)
{
	bool is_mem = op == SHUNT_OP_CALL_MEM || op == SHUNT_OP_JMP_MEM;
	uintptr_t target = is_mem ? (uintptr_t)&slot : ip + 100;

	return (struct shunt_insn){.op = (uint8_t)op,
				   .len = (uint8_t)len,
				   .cc = op == SHUNT_OP_JCC ? 5 : 0,
				   .target = has_target(op) ? target : 0};
}

/* Registers and stack behind @insn; false: it is not emulated. */
static bool effect(const struct cpu *c, uintptr_t ip, const struct shunt_insn *insn,
		   struct shunt_regs *regs, uintptr_t pushed[4])
{
	for (size_t i = 0; i < 4; i++)
		stack[i] = 0x1111 * (i + 1);
	*regs = (struct shunt_regs){.sp = (uintptr_t)&stack[2], .ax = 0x1234, .flags = 0x202};
	if (!c->emulate(regs, ip, insn))
		return false;
	memcpy(pushed, stack, sizeof(stack));
	return true;
}

/* Of one form: written, read, and executed from what was written and from what was read. */
static const char *disagreement(const struct cpu *c, uintptr_t ip, unsigned op, unsigned len)
{
	struct shunt_insn insn = insn_at(ip, op, len), got;
	uintptr_t stack_of[2][4];
	struct shunt_regs regs[2];
	uint8_t bytes[SHUNT_INSN_MAX];
	unsigned read = op == SHUNT_OP_RET ? 1 : len; /* what fills a ret up is not of it */

	if (c->encode(&insn, ip, bytes) != (int)len)
		return say("not encoded", op, len);
	if (c->decode(bytes, len, ip, &got) != (int)read)
		return say("not decoded, or with another length", op, len);
	if (got.op != op || got.len != read || got.cc != insn.cc || got.target != insn.target)
		return say("decoded as another", op, len);
	if (c->decode(bytes, read - 1, ip, &got) > 0 && op != SHUNT_OP_NOP)
		return say("decoded from a part of it", op, len);
	(void)c->decode(bytes, len, ip, &got);
	if (op == SHUNT_OP_INT3)
		return c->emulate(&regs[0], ip, &insn) ? say("emulated", op, len) : NULL;
	if (!effect(c, ip, &insn, &regs[0], stack_of[0]) ||
	    !effect(c, ip, &got, &regs[1], stack_of[1]))
		return say("not emulated", op, len);
	if (memcmp(&regs[0], &regs[1], sizeof(regs[0])) != 0 ||
	    memcmp(stack_of[0], stack_of[1], sizeof(stack)) != 0)
		return say("has another effect when it is decoded", op, len);
	return NULL;
}

/* Whether @op has just the forms that it is to have. */
static const char *wrong_op(const struct cpu *c, unsigned op)
{
	/* Within reach of the slot and of every displacement. */
	uintptr_t ip = (uintptr_t)&slot + 64;

	if (op >= NR_OPS_HERE || (op && !lengths[op]))
		return say("no row in this test", op, 0);
	for (unsigned len = 0; len <= SHUNT_INSN_MAX + 1; len++) {
		struct shunt_insn insn = insn_at(ip, op, len);
		uint8_t bytes[SHUNT_INSN_MAX];
		const char *why;

		if (!(lengths[op] & LEN(len))) {
			if (c->encode(&insn, ip, bytes) >= 0)
				return say("encoded in a length that it has not", op, len);
			continue;
		}
		why = disagreement(c, ip, op, len);
		if (why)
			return why;
	}
	return NULL;
}

static const char *wrong_kind(const struct cpu *c, unsigned kind)
{
	uintptr_t ip = (uintptr_t)&slot + 64;

	if (kind >= NR_KINDS_HERE || !kinds[kind].len)
		return say("no row in this test, kind", kind, 0);
	if (shunt_site_len(kind) != kinds[kind].len)
		return say("another length, kind", kind, shunt_site_len(kind));
	return disagreement(c, ip, kinds[kind].op, kinds[kind].len);
}

static const char *forgotten(const struct cpu *c)
{
	const char *why = NULL;

	for (unsigned op = 0; op < c->nr_ops && !why; op++)
		why = wrong_op(c, op);
	for (unsigned kind = 0; kind < c->nr_kinds && !why; kind++)
		why = wrong_kind(c, kind);
	return why;
}

static void each_op_and_kind_has_its_forms(void **state)
{
	const char *why = forgotten(&cpu);

	(void)state;
	if (why)
		fail_msg("%s", why);
}

/* Behind the last op nothing is encoded or emulated: SHUNT_NR_OPS is where it says. */
static void nothing_behind_the_last(void **state)
{
	(void)state;
	for (unsigned op = SHUNT_NR_OPS; op < 256; op++)
		for (unsigned len = 1; len <= SHUNT_INSN_MAX; len++) {
			struct shunt_insn insn = {.op = (uint8_t)op, .len = (uint8_t)len};
			struct shunt_regs regs = {0};
			uint8_t bytes[SHUNT_INSN_MAX];

			assert_true(shunt_insn_encode(&insn, 0, bytes) < 0);
			assert_false(shunt_emulate(&regs, 0, &insn));
		}
}

/* ---------------------------------------------------------- negative controls */

static struct shunt_insn left_out;

static bool is_left_out(const struct shunt_insn *insn)
{
	return insn->op == left_out.op && (!left_out.len || insn->len == left_out.len);
}

static int encode_without(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX])
{
	return is_left_out(insn) ? -1 : shunt_insn_encode(insn, ip, buf);
}

static int decode_without(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out)
{
	int ret = shunt_insn_decode(buf, len, ip, out);

	return ret > 0 && is_left_out(out) ? -1 : ret;
}

static bool emulate_without(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	return !is_left_out(insn) && shunt_emulate(regs, ip, insn);
}

/* Each form, left out of each of the three. */
static void a_form_left_out_is_seen(void **state)
{
	struct cpu encode = cpu, decode = cpu, emulate = cpu;

	(void)state;
	encode.encode = encode_without;
	decode.decode = decode_without;
	emulate.emulate = emulate_without;
	for (unsigned op = 1; op < SHUNT_NR_OPS; op++)
		for (unsigned len = 1; len <= SHUNT_INSN_MAX; len++) {
			if (!(lengths[op] & LEN(len)))
				continue;
			left_out = (struct shunt_insn){.op = (uint8_t)op, .len = (uint8_t)len};
			assert_non_null(forgotten(&encode));
			if (op == SHUNT_OP_RET)
				left_out.len = 1; /* which all are read as */
			assert_non_null(forgotten(&decode));
			if (op != SHUNT_OP_INT3)
				assert_non_null(forgotten(&emulate));
		}
}

/* One more op, one more kind, which nobody knows. */
static void a_new_one_is_seen(void **state)
{
	struct cpu more = cpu;

	(void)state;
	more.nr_ops++;
	assert_non_null(forgotten(&more));
	more = cpu;
	more.nr_kinds++;
	assert_non_null(forgotten(&more));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_op_and_kind_has_its_forms),
		cmocka_unit_test(nothing_behind_the_last),
		cmocka_unit_test(a_form_left_out_is_seen),
		cmocka_unit_test(a_new_one_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
