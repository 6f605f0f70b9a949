/* SPDX-License-Identifier: MIT */
/*
 * Instructions in software: what a thread that hit an int3 would have done, had
 * it run into the finished instruction. Every effect that the CPU would have
 * had on registers, flags and stack must be here, and no other.
 */
#include "arch/arch.h"

#define FLAG_CF ((uintptr_t)1 << 0)
#define FLAG_PF ((uintptr_t)1 << 2)
#define FLAG_ZF ((uintptr_t)1 << 6)
#define FLAG_SF ((uintptr_t)1 << 7)
#define FLAG_OF ((uintptr_t)1 << 11)

/*
 * A word of the interrupted program's memory. It need not be aligned, and it may
 * be of any type there. Volatile makes of each access one instruction, as the
 * real one is: a slot may be written by another thread meanwhile.
 */
struct word {
	uintptr_t value;
} __attribute__((packed, may_alias));

static uintptr_t load(uintptr_t address)
{
	return ((const volatile struct word *)address)->value;
}

static void store(uintptr_t address, uintptr_t value)
{
	((volatile struct word *)address)->value = value;
}

bool shunt_emulate_cc(unsigned cc, uintptr_t flags)
{
	bool less = !(flags & FLAG_SF) != !(flags & FLAG_OF);
	bool zero = flags & FLAG_ZF;
	bool holds;

	switch ((cc >> 1) & 7) {
	case 0: /* o */
		holds = flags & FLAG_OF;
		break;
	case 1: /* b */
		holds = flags & FLAG_CF;
		break;
	case 2: /* z */
		holds = zero;
		break;
	case 3: /* be */
		holds = zero || (flags & FLAG_CF);
		break;
	case 4: /* s */
		holds = flags & FLAG_SF;
		break;
	case 5: /* p */
		holds = flags & FLAG_PF;
		break;
	case 6: /* l */
		holds = less;
		break;
	default: /* le: either will do, not both at once (Linux 8924779df820) */
		holds = less || zero;
		break;
	}
	/* An odd condition is the opposite of the even one before it. */
	return holds != (cc & 1);
}

/* The store comes first: if it faults, the registers are as they were. */
static void call(struct shunt_regs *regs, uintptr_t next, uintptr_t target)
{
	store(regs->sp - sizeof(uintptr_t), next);
	regs->sp -= sizeof(uintptr_t);
	regs->ip = target;
}

static void ret(struct shunt_regs *regs)
{
	regs->ip = load(regs->sp);
	regs->sp += sizeof(uintptr_t);
}

/* xor %eax,%eax leaves AF undefined; here it stays what it was. */
static void ret0(struct shunt_regs *regs, uintptr_t next)
{
	regs->ax = 0;
	regs->flags &= ~(FLAG_CF | FLAG_SF | FLAG_OF);
	regs->flags |= FLAG_ZF | FLAG_PF;
	regs->ip = next;
}

/* A byte with an even number of ones; what is above it does not come into it. */
static bool is_even(uintptr_t byte)
{
	byte ^= byte >> 4;
	byte ^= byte >> 2;
	byte ^= byte >> 1;
	return !(byte & 1);
}

/*
 * test of al (2 bytes) or eax (5) with the displacement of @insn. It leaves AF undefined; here
 * it stays what it was.
 */
static void test_ax(struct shunt_regs *regs, uintptr_t next, const struct shunt_insn *insn)
{
	unsigned bits = insn->len == 2 ? 8 : 32;
	uintptr_t result = regs->ax & (insn->target - next) & (((uintptr_t)1 << bits) - 1);

	regs->flags &= ~(FLAG_CF | FLAG_PF | FLAG_ZF | FLAG_SF | FLAG_OF);
	if (is_even(result & 0xff))
		regs->flags |= FLAG_PF;
	if (!result)
		regs->flags |= FLAG_ZF;
	if (result >> (bits - 1))
		regs->flags |= FLAG_SF;
	regs->ip = next;
}

bool shunt_emulate(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	uintptr_t next = ip + insn->len;

	switch (insn->op) {
	case SHUNT_OP_CALL:
		call(regs, next, insn->target);
		return true;
	case SHUNT_OP_JMP:
		regs->ip = insn->target;
		return true;
	case SHUNT_OP_JCC:
		regs->ip = shunt_emulate_cc(insn->cc, regs->flags) ? insn->target : next;
		return true;
	case SHUNT_OP_RET:
		ret(regs);
		return true;
	case SHUNT_OP_NOP:
		regs->ip = next;
		return true;
	case SHUNT_OP_RET0:
		ret0(regs, next);
		return true;
	case SHUNT_OP_CALL_MEM:
		/* The slot is read before the push, which may hit it. */
		call(regs, next, load(insn->target));
		return true;
	case SHUNT_OP_JMP_MEM:
		regs->ip = load(insn->target);
		return true;
	case SHUNT_OP_TEST:
		test_ax(regs, next, insn);
		return true;
	default:
		return false;
	}
}
