/* SPDX-License-Identifier: MIT */
/* Handlers of #BP that treat a function's entry otherwise than the tracer does (ftrace_int3.c). */
#ifndef KERNEL_FTRACE_INT3_H
#define KERNEL_FTRACE_INT3_H

#include "trap.h"

/* For idt_set(VEC_BP, ..., 0); entries.S. */
void ftrace_int3_skip_entry(void);
void ftrace_int3_regs_caller_entry(void);

/* How often the second has called the stub of the list. */
uint64_t ftrace_int3_list_calls(void);

/* What the entries call. */
void ftrace_int3_skip(struct trapframe *frame);
void ftrace_int3_regs_caller(struct trapframe *frame, uint64_t ssp);

#endif
