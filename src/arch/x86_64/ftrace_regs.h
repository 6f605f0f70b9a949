/* SPDX-License-Identifier: MIT */
/*
 * What stubs of function tracing save (ftrace_save.inc), which is what callbacks see of the traced
 * function. Offsets for the assembly, the same as a structure for C.
 */
#ifndef SHUNT_ARCH_FTRACE_REGS_H
#define SHUNT_ARCH_FTRACE_REGS_H

#define FTRACE_REGS_SIZE 80 /* bytes of it below the saved rbp */
#define FTRACE_SLOT_SIZE 16 /* struct shunt_ftrace_slot */
#define FTRACE_SLOTS     128
#define FTRACE_INSN_SIZE 5 /* the call at an entry: what is behind it is a nop */

/* enum shunt_entry_form (core/ftrace.h) */
#define FTRACE_FORM_HEAD        0
#define FTRACE_FORM_CALL        1
#define FTRACE_FORM_RETURN      2
#define FTRACE_FORM_TAIL        3
#define FTRACE_FORM_CALL_RETURN 4
#define FTRACE_FORM_JUMP_RETURN 5
/* A return stub (the stack held its address in the place of the return address). */
#define FTRACE_FORM_STUB 6

/* core/ftrace.h: what stands for a jump's instruction pointer is its function's with this bit. */
#define FTRACE_JUMP_BIT 62

/* Return stubs (return_stubs.S): how many bytes, and each. */
#define FTRACE_RETURN_STUBS     0x100000
#define FTRACE_RETURN_STUB_BITS 4

/* struct shunt_cursor (core/ftrace.h), for the assembly */
#define FTRACE_CURSOR_SIZE   64
#define FTRACE_CURSOR_IP     0
#define FTRACE_CURSOR_PARENT 8
#define FTRACE_CURSOR_REGS   16

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

struct ftrace_regs {
	uint64_t form; /* FTRACE_FORM_*: what called the stub */
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax, rbp;
	uint64_t return_ip; /* behind the call of the stub; FORM_STUB: where parent_ip was; JUMP:
			       made up */
	uint64_t parent_ip; /* FORM_HEAD, RETURN, TAIL, JUMP_RETURN: the word that the function
			       returns by */
};

static inline uintptr_t *shunt_regs_return_word(struct ftrace_regs *regs)
{
	return (uintptr_t *)&regs->parent_ip;
}

static inline uintptr_t shunt_regs_sp(const struct ftrace_regs *regs)
{
	return (uintptr_t)&regs->parent_ip;
}

/* The call of a return stub has overwritten the word that the function has returned by. */
static inline uintptr_t shunt_regs_returned_sp(const struct ftrace_regs *regs)
{
	return (uintptr_t)&regs->return_ip;
}

static inline uintptr_t shunt_regs_stub(const struct ftrace_regs *regs)
{
	return regs->return_ip - FTRACE_INSN_SIZE;
}

static inline uintptr_t shunt_regs_function(const struct ftrace_regs *regs)
{
	return regs->rdi;
}

static inline uintptr_t shunt_regs_site(const struct ftrace_regs *regs)
{
	return regs->rsi;
}

static inline bool shunt_is_returned_by(uintptr_t word, uintptr_t at, uintptr_t sp)
{
	(void)sp;
	return word == *(const uintptr_t *)at;
}
#endif
#endif
