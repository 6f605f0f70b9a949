/* SPDX-License-Identifier: MIT */
/*
 * What stubs of function tracing save (ftrace_stubs.S, return_entry.S), which is what callbacks
 * see of the traced function. Offsets for the assembly, the same as a structure for C.
 */
#ifndef SHUNT_ARCH_AARCH64_FTRACE_REGS_H
#define SHUNT_ARCH_AARCH64_FTRACE_REGS_H

#define FTRACE_REGS_SIZE 208
#define FTRACE_X0        8
#define FTRACE_X18       152
#define FTRACE_SP        160
#define FTRACE_IP        168
#define FTRACE_RECORD    176
#define FTRACE_PC        184
#define FTRACE_X29       192
#define FTRACE_X30       200

/* enum shunt_entry_form (core/ftrace.h): functions have entries alone. */
#define FTRACE_FORM_HEAD        0
#define FTRACE_FORM_CALL        1
#define FTRACE_FORM_CALL_RETURN 4
#define FTRACE_FORM_JUMP_RETURN 5
/* A return stub (x30 held its address in the place of the return address). */
#define FTRACE_FORM_STUB 6

/* Return stubs (return_stubs.S): how many bytes, and each. */
#define FTRACE_RETURN_STUBS     0x80000
#define FTRACE_RETURN_STUB_BITS 3

/* struct shunt_cursor (core/ftrace.h), for the assembly */
#define FTRACE_CURSOR_SIZE 64
#define FTRACE_CURSOR_IP   0
#define FTRACE_CURSOR_REGS 16

/* The stub of an entry (struct shunt_entry_stub in process.h): its b, and where the entry is. */
#define FTRACE_ENTRY_STUB_B  8
#define FTRACE_ENTRY_STUB_IP 12

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

struct ftrace_regs {
	uint64_t form; /* FTRACE_FORM_* */
	uint64_t x[19];
	uint64_t sp;
	uint64_t ip;     /* of the entry; FORM_STUB: of the return stub */
	uint64_t record; /* a frame record: where the next is, that of x29 and x30 */
	uint64_t pc;     /* and where the function goes on, for unwinders */
	uint64_t x29;
	uint64_t x30; /* the function's return address */
};

static inline uintptr_t *shunt_regs_return_word(struct ftrace_regs *regs)
{
	return (uintptr_t *)&regs->x30;
}

static inline uintptr_t shunt_regs_sp(const struct ftrace_regs *regs)
{
	return regs->sp;
}

static inline uintptr_t shunt_regs_returned_sp(const struct ftrace_regs *regs)
{
	return regs->sp;
}

static inline uintptr_t shunt_regs_stub(const struct ftrace_regs *regs)
{
	return regs->ip;
}

/* There are no such forms. */
static inline uintptr_t shunt_regs_function(const struct ftrace_regs *regs)
{
	return regs->x[0];
}

static inline uintptr_t shunt_regs_site(const struct ftrace_regs *regs)
{
	return regs->x[1];
}

/*
 * A function that calls another has saved x30 in its frame, somewhere below @at; signed perhaps,
 * in the bits that no address has.
 */
static inline bool shunt_is_returned_by(uintptr_t word, uintptr_t at, uintptr_t sp)
{
	for (const uintptr_t *p = (const uintptr_t *)sp; p < (const uintptr_t *)at; p++)
		if (!((*p ^ word) << 16))
			return true;
	return false;
}
#endif
#endif
