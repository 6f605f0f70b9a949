/* SPDX-License-Identifier: MIT */
/*
 * The instructions that a site can hold, by the words of a64.h: bl, b and nop. What the
 * architecture does not allow to be replaced while it runs is none of them, also where it is easily
 * read: so nothing else is ever written, or written over.
 */
#include "arch/aarch64/a64.h"
#include "arch/arch.h"
#include "core/error.h"

static int word_of(const struct shunt_insn *insn, uintptr_t ip, uint32_t *word)
{
	if (insn->len != A64_LEN || ip % A64_LEN)
		return -SHUNT_EINVAL;
	switch (insn->op) {
	case SHUNT_OP_NOP:
		*word = A64_NOP;
		return 0;
	case SHUNT_OP_CALL:
	case SHUNT_OP_JMP:
		if (!a64_branch_reaches(ip, insn->target))
			return -SHUNT_ERANGE;
		*word = a64_branch(insn->op == SHUNT_OP_CALL, ip, insn->target);
		return 0;
	default:
		return -SHUNT_EINVAL;
	}
}

int shunt_insn_encode(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX])
{
	uint32_t word = 0;
	int ret = word_of(insn, ip, &word);

	if (ret)
		return ret;
	a64_store(buf, word);
	return A64_LEN;
}

int shunt_insn_encode_site(const struct shunt_insn *insn, uintptr_t ip, unsigned len,
			   uint8_t *bytes)
{
	int ret = len == A64_LEN ? shunt_insn_encode(insn, ip, bytes) : -SHUNT_EINVAL;

	return ret < 0 ? ret : 0;
}

int shunt_insn_decode(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out)
{
	uint32_t word;

	*out = (struct shunt_insn){.op = SHUNT_OP_NONE};
	if (len < A64_LEN || ip % A64_LEN)
		return -SHUNT_EINVAL;
	word = a64_load(buf);
	if (a64_is_nop(word)) {
		out->op = SHUNT_OP_NOP;
	} else if (a64_is_b(word) || a64_is_bl(word)) {
		out->op = a64_is_bl(word) ? SHUNT_OP_CALL : SHUNT_OP_JMP;
		out->target = (uintptr_t)a64_branch_target(word, ip);
	} else {
		return -SHUNT_EINVAL;
	}
	out->len = A64_LEN;
	return A64_LEN;
}

bool shunt_insn_reach(uintptr_t next, uintptr_t target)
{
	return a64_fits(target - next, 28);
}

/* Nothing traps. */
bool shunt_emulate(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	(void)regs;
	(void)ip;
	(void)insn;
	return false;
}
