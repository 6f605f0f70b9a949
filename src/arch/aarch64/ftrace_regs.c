/* SPDX-License-Identifier: MIT */
/* What a callback sees of the registers at a function's entry or return. */
#include "arch/aarch64/ftrace_regs.h"

#include <stddef.h>

#include <shunt/ftrace.h>

#include "arch/arch.h"

_Static_assert(sizeof(struct ftrace_regs) == FTRACE_REGS_SIZE, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, x) == FTRACE_X0, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, x[18]) == FTRACE_X18, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, sp) == FTRACE_SP, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, ip) == FTRACE_IP, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, record) == FTRACE_RECORD, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, pc) == FTRACE_PC, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, x29) == FTRACE_X29, "as the assembly has it");
_Static_assert(offsetof(struct ftrace_regs, x30) == FTRACE_X30, "as the assembly has it");

struct shunt_return_range shunt_return_range;

unsigned shunt_regs_form(const struct ftrace_regs *regs)
{
	return (unsigned)regs->form;
}

uintptr_t shunt_regs_parent(const struct ftrace_regs *regs)
{
	return shunt_return_parent(regs->x30);
}

unsigned long ftrace_regs_get_argument(struct ftrace_regs *fregs, unsigned int n)
{
	return shunt_regs_form(fregs) == FTRACE_FORM_HEAD && n < 8 ? fregs->x[n] : 0;
}

unsigned long ftrace_regs_get_return_value(struct ftrace_regs *fregs)
{
	return shunt_regs_form(fregs) == FTRACE_FORM_STUB ? fregs->x[0] : 0;
}

uintptr_t shunt_regs_stack(const struct ftrace_regs *regs)
{
	return regs->sp;
}

uintptr_t shunt_regs_ip(const struct ftrace_regs *regs)
{
	return shunt_return_parent(regs->ip);
}

unsigned long ftrace_regs_get_stack_pointer(struct ftrace_regs *fregs)
{
	return shunt_regs_stack(fregs);
}

unsigned long ftrace_regs_get_instruction_pointer(struct ftrace_regs *fregs)
{
	return shunt_regs_ip(fregs);
}
