/* SPDX-License-Identifier: MIT */
/*
 * What is in rax where a system call is made: a search against the flow of control, from
 * there to the last writes of rax, and on with the register that it was copied from. All of
 * them must give the same constant (Aho, Lam, Sethi and Ullman: reaching definitions).
 */
#include <Zydis/Zydis.h>
#include <string.h>

#include "walk.h"

#define MAX_INSNS     2048
#define MAX_COPIES    4
#define UNKNOWN_VALUE (~(uint64_t)0)

struct line {
	uint64_t at;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[2];
	uint32_t written; /* general registers, a bit each, from rax on */
	uint64_t target;  /* of a jump within the function; 0: none */
};

/* A function, decoded. */
static struct {
	const Elf64_Sym *function;
	struct line lines[MAX_INSNS];
	size_t n;
	bool is_plain;                        /* no jump through a register or a table */
	bool seen[MAX_COPIES + 1][MAX_INSNS]; /* for each register of a chain of copies */
} flow;

static ZydisRegister whole(ZydisRegister reg)
{
	return ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
}

static uint32_t bit_of(ZydisRegister reg)
{
	return ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_GPR64 ? 1u << (reg - ZYDIS_REGISTER_RAX)
								  : 0;
}

/* A call does not write all of them; but then what they hold is not known. */
static uint32_t registers_written(const ZydisDecodedInstruction *insn,
				  const ZydisDecodedOperand *ops)
{
	uint32_t written = insn->meta.category == ZYDIS_CATEGORY_CALL ? ~0u : 0;

	for (unsigned i = 0; i < insn->operand_count; i++)
		if (ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (ops[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			written |= bit_of(whole(ops[i].reg.value));
	if (insn->mnemonic == ZYDIS_MNEMONIC_SYSCALL)
		written |= bit_of(ZYDIS_REGISTER_RAX);
	return written;
}

static bool read_line(const struct image *image, uint64_t at, uint64_t end, struct line *line)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecoder decoder;
	size_t len = end - at < 15 ? end - at : 15;
	const void *bytes = image_at(image, at, len);
	ZyanU64 to;

	(void)ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!bytes || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, len, &line->insn, ops)))
		return false;
	memcpy(line->ops, ops, sizeof(line->ops));
	line->at = at;
	line->target = 0;
	line->written = registers_written(&line->insn, ops);
	if (line->insn.meta.category != ZYDIS_CATEGORY_COND_BR &&
	    line->insn.meta.category != ZYDIS_CATEGORY_UNCOND_BR)
		return true;
	flow.is_plain &= ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	if (ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&line->insn, &ops[0], at, &to)))
		line->target = to;
	return true;
}

static void read_function(const struct image *image, const Elf64_Sym *function)
{
	uint64_t at = function->st_value, end = at + function->st_size;

	flow.n = 0;
	flow.is_plain = true;
	while (at < end && flow.n < MAX_INSNS && read_line(image, at, end, &flow.lines[flow.n]))
		at += flow.lines[flow.n++].insn.length;
	flow.is_plain &= at == end;
}

/* Whether control can go from @line to the one behind it. */
static bool falls_through(const struct line *line)
{
	return line->insn.meta.category != ZYDIS_CATEGORY_UNCOND_BR &&
	       line->insn.meta.category != ZYDIS_CATEGORY_RET;
}

static uint64_t before(size_t index, ZydisRegister reg, unsigned copies);

/* What @reg holds behind the line of number @index. */
static uint64_t behind(size_t index, ZydisRegister reg, unsigned copies)
{
	const struct line *line = &flow.lines[index];

	if (!(line->written & bit_of(reg)))
		return before(index, reg, copies);
	if (line->insn.mnemonic == ZYDIS_MNEMONIC_XOR &&
	    line->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    line->ops[0].reg.value == line->ops[1].reg.value)
		return 0;
	if (line->insn.mnemonic != ZYDIS_MNEMONIC_MOV)
		return UNKNOWN_VALUE;
	if (line->ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return line->ops[1].imm.value.u;
	if (line->ops[1].type != ZYDIS_OPERAND_TYPE_REGISTER || copies == MAX_COPIES)
		return UNKNOWN_VALUE;
	memset(flow.seen[copies + 1], 0, sizeof(flow.seen[0]));
	return before(index, whole(line->ops[1].reg.value), copies + 1);
}

#define NO_VALUE (UNKNOWN_VALUE - 1) /* of a loop that brings nothing new */

static uint64_t join(uint64_t a, uint64_t b)
{
	return a == NO_VALUE || a == b ? b : b == NO_VALUE ? a : UNKNOWN_VALUE;
}

/* What @reg holds before it, by all ways that lead there. */
static uint64_t before(size_t index, ZydisRegister reg, unsigned copies)
{
	uint64_t value = NO_VALUE;

	if (flow.seen[copies][index])
		return NO_VALUE;
	flow.seen[copies][index] = true;
	if (!index)
		return UNKNOWN_VALUE; /* the caller's */
	if (falls_through(&flow.lines[index - 1]))
		value = behind(index - 1, reg, copies);
	for (size_t i = 0; i < flow.n && value != UNKNOWN_VALUE; i++)
		if (flow.lines[i].target == flow.lines[index].at)
			value = join(value, behind(i, reg, copies));
	return value;
}

uint64_t flow_rax(const struct image *image, const Elf64_Sym *function, uint64_t at)
{
	if (flow.function != function)
		read_function(image, function);
	flow.function = function;
	for (size_t i = 0; i < flow.n; i++)
		if (flow.lines[i].at == at && flow.is_plain) {
			memset(flow.seen[0], 0, sizeof(flow.seen[0]));
			return before(i, ZYDIS_REGISTER_RAX, 0);
		}
	return UNKNOWN_VALUE;
}
