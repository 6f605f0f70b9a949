/* SPDX-License-Identifier: MIT */
/*
 * What a site of a static call becomes for its key's initial value: the instruction that the
 * library's core would give it (core/static_call.c). Compiled for each CPU whose files are baked,
 * with the constants of its folder of src/arch (arch/foreign.h).
 */
#include "bake_form.h"

#include "arch/arch.h"
#include "core/site.h"

static unsigned site_len(unsigned kind)
{
	return SHUNT_SITE_LENGTHS >> 4 * kind & 0xf;
}

/* A call of NULL is off, and keeps the displacement that leads to @tramp, if the CPU has a form. */
static struct shunt_insn call_form(unsigned kind, const struct bake_target *to)
{
	struct shunt_insn insn = {.len = (uint8_t)site_len(kind), .target = to->target};

	if (to->initial != INITIAL_NULL) {
		insn.op = to->initial == INITIAL_RET0 ? SHUNT_RET0_CALL : SHUNT_OP_CALL;
		return insn;
	}
	insn.target = to->tramp;
	insn.op = to->tramp && insn.len == SHUNT_PLAIN_LEN ? SHUNT_OFF_CALL : SHUNT_OP_NOP;
	return insn;
}

static struct shunt_insn tail_form(unsigned kind, const struct bake_target *to)
{
	struct shunt_insn insn = {.op = SHUNT_OP_JMP, .len = SHUNT_PLAIN_LEN, .target = to->target};

	if (to->initial != INITIAL_NULL || SHUNT_OFF_TAIL == SHUNT_OP_JMP)
		return insn;
	insn.op = SHUNT_OFF_TAIL;
	insn.target = to->tramp;
	if (!to->tramp)
		insn.len = (uint8_t)site_len(kind);
	return insn;
}

static struct shunt_insn form_of(uint8_t kind, const struct bake_target *to)
{
	if ((kind & 0xf) == SHUNT_KIND_JCC)
		return (struct shunt_insn){.op = SHUNT_OP_JCC,
					   .len = (uint8_t)site_len(SHUNT_KIND_JCC),
					   .cc = kind >> 4,
					   .target = to->target};
	return kind == SHUNT_KIND_CALL || kind == SHUNT_KIND_CALL_GOT ? call_form(kind, to)
								      : tail_form(kind, to);
}

/* Whether it goes to the target itself. */
static bool is_reached(const struct shunt_insn *insn)
{
	return insn->op == SHUNT_OP_CALL || insn->op == SHUNT_OP_JMP || insn->op == SHUNT_OP_JCC;
}

enum bake_outcome bake_linked_form(uint8_t kind, uint64_t ip, uint64_t operand, uint8_t *bytes)
{
	static const uint8_t op[] = {
		[SHUNT_KIND_CALL] = SHUNT_OP_CALL, [SHUNT_KIND_CALL_GOT] = SHUNT_OP_CALL_MEM,
		[SHUNT_KIND_JMP] = SHUNT_OP_JMP,   [SHUNT_KIND_JMP_GOT] = SHUNT_OP_JMP_MEM,
		[SHUNT_KIND_JCC] = SHUNT_OP_JCC,
	};
	unsigned len = site_len(kind & 0xf);
	struct shunt_insn insn = {
		.op = op[kind & 0xf], .len = (uint8_t)len, .cc = kind >> 4, .target = operand};

	return shunt_insn_encode_site(&insn, ip, len, bytes) ? BAKE_FAR : BAKE_DIRECT;
}

enum bake_outcome bake_form(uint8_t kind, uint64_t ip, const struct bake_target *to, uint8_t *bytes)
{
	struct shunt_insn insn = form_of(kind, to);

	if (is_reached(&insn) && !to->target)
		return BAKE_NO_TARGET;
	return shunt_insn_encode_site(&insn, ip, site_len(kind & 0xf), bytes) ? BAKE_FAR
									      : BAKE_DIRECT;
}
