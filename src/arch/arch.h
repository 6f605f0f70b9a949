/* SPDX-License-Identifier: MIT */
/*
 * The instructions that a site can hold: one description for each, which the
 * poke turns into bytes (encode), the verification turns back (decode), and the
 * trap handler executes in software (emulate.h).
 */
#ifndef SHUNT_CORE_INSN_H
#define SHUNT_CORE_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest form that encode writes: a nop of 9 bytes. */
#define SHUNT_INSN_MAX 9

enum shunt_op {
	SHUNT_OP_NONE = 0, /* not an instruction that Shunt knows */
	SHUNT_OP_CALL,     /* call rel32: 5 bytes, or 6 with an address-size prefix */
	SHUNT_OP_JMP,      /* jmp rel32 (5) or rel8 (2) */
	SHUNT_OP_JCC,      /* jcc rel32 (6) or rel8 (2) */
	SHUNT_OP_RET,      /* ret (1), filled up with int3 to the site's length */
	SHUNT_OP_NOP,      /* the recommended nop of 1 to 9 bytes, or clang's of 4 to 9 */
	SHUNT_OP_INT3,     /* int3 (1) */
	SHUNT_OP_RET0,     /* xor %eax,%eax as one instruction of 5 or 6 bytes */
	SHUNT_OP_CALL_MEM, /* call *disp32(%rip) (6); target: address of the slot */
	SHUNT_OP_JMP_MEM,  /* jmp *disp32(%rip) (6); target: address of the slot */
};

struct shunt_insn {
	uint8_t op;       /* enum shunt_op */
	uint8_t len;      /* bytes, 1 to SHUNT_INSN_MAX */
	uint8_t cc;       /* SHUNT_OP_JCC: the condition, 0 to 15, as in the opcode */
	uintptr_t target; /* call, jmp, jcc: where to; *_MEM: the slot's address */
};

#define SHUNT_INT3 0xcc

/*
 * Write @insn as it stands at address @ip into @buf.
 *
 * @insn.len chooses the form where there are several: call 5 or 6, jmp 2 or 5,
 * jcc 2 or 6, ret 1 to 9, nop 1 to 9, RET0 5 or 6; all others have one length.
 *
 * Returns the length in bytes (= insn->len), -ERANGE where the target is out of
 * the form's reach, -EINVAL where there is no such form. @buf is then untouched.
 */
int shunt_insn_encode(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX]);

/*
 * Read one instruction of at most @len bytes at @buf, as it stands at @ip.
 *
 * Knows exactly the forms that encode writes, and clang's nops; `ret` and the fill behind it are
 * two instructions to it (ret, len 1). Returns the length in bytes, or -EINVAL
 * with @out->op = SHUNT_OP_NONE where it is something else or is cut off.
 */
int shunt_insn_decode(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out);

/* Whether a rel32 in an instruction that ends at @next reaches @target. */
bool shunt_insn_reach(uintptr_t next, uintptr_t target);

#endif
