/* SPDX-License-Identifier: MIT */
/* What a callback sees of the registers at a function's entry or return. */
#include "arch/x86_64/ftrace_regs.h"

#include <shunt/ftrace.h>

#include "arch/arch.h"

struct shunt_return_range shunt_return_range;

unsigned shunt_regs_form(const struct ftrace_regs *regs)
{
	return (unsigned)regs->form;
}

uintptr_t shunt_regs_parent(const struct ftrace_regs *regs)
{
	unsigned form = shunt_regs_form(regs);
	bool is_call = form == FTRACE_FORM_CALL || form == FTRACE_FORM_CALL_RETURN ||
		       form == FTRACE_FORM_JUMP_RETURN;

	return shunt_return_parent(is_call ? regs->rsi : regs->parent_ip);
}

/* Before the call of an instrumented function's tracer they have been moved away already. */
unsigned long ftrace_regs_get_argument(struct ftrace_regs *fregs, unsigned int n)
{
	const uint64_t arguments[] = {fregs->rdi, fregs->rsi, fregs->rdx,
				      fregs->rcx, fregs->r8,  fregs->r9};

	return shunt_regs_form(fregs) == FTRACE_FORM_HEAD && n < 6 ? arguments[n] : 0;
}

/* Where an instrumented function tells of its exit rax is anything: the value is elsewhere still.
 */
unsigned long ftrace_regs_get_return_value(struct ftrace_regs *fregs)
{
	unsigned form = shunt_regs_form(fregs);

	return form == FTRACE_FORM_STUB || form == FTRACE_FORM_RETURN ? fregs->rax : 0;
}

uintptr_t shunt_regs_stack(const struct ftrace_regs *regs)
{
	if (shunt_regs_form(regs) == FTRACE_FORM_STUB)
		return (uintptr_t)&regs->return_ip;
	return (uintptr_t)&regs->parent_ip;
}

uintptr_t shunt_regs_ip(const struct ftrace_regs *regs)
{
	uintptr_t ip = regs->return_ip - FTRACE_INSN_SIZE;

	return shunt_regs_form(regs) == FTRACE_FORM_STUB ? shunt_return_parent(ip) : ip;
}

unsigned long ftrace_regs_get_stack_pointer(struct ftrace_regs *fregs)
{
	return shunt_regs_stack(fregs);
}

unsigned long ftrace_regs_get_instruction_pointer(struct ftrace_regs *fregs)
{
	return shunt_regs_ip(fregs);
}
