/* SPDX-License-Identifier: MIT */
/*
 * What stubs of function tracing save (ftrace_save.inc), which is what callbacks see of the traced
 * function. Offsets for the assembly, the same as a structure for C.
 */
#ifndef SHUNT_ARCH_FTRACE_REGS_H
#define SHUNT_ARCH_FTRACE_REGS_H

#define FTRACE_REGS_SIZE 80 /* bytes of it below the saved rbp */
#define FTRACE_SLOT_SIZE 16 /* struct shunt_trace_slot */
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
#include <stdint.h>

/* Where they are, and the return addresses that they stand for; 0: there are none yet. */
struct shunt_return_range {
	uintptr_t stubs;
	const uintptr_t *slots;
};
extern struct shunt_return_range shunt_return_range;

/* The callers that a function has whose return address is @addr, which may be a stub. */
static inline uintptr_t shunt_return_parent(uintptr_t addr)
{
	uintptr_t at = addr - shunt_return_range.stubs;

	if (at >= FTRACE_RETURN_STUBS || !shunt_return_range.stubs)
		return addr;
	return ((const volatile uintptr_t *)
			shunt_return_range.slots)[at >> FTRACE_RETURN_STUB_BITS];
}

struct ftrace_regs {
	uint64_t form; /* FTRACE_FORM_*: what called the stub */
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax, rbp;
	uint64_t return_ip; /* behind the call of the stub; FORM_STUB: where parent_ip was; JUMP:
			       made up */
	uint64_t parent_ip; /* FORM_HEAD, RETURN, TAIL, JUMP_RETURN: the word that the function
			       returns by */
};
#endif
#endif
