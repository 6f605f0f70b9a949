/* SPDX-License-Identifier: MIT */
/* An entry of five nops of one byte, handed over by hand (entries.h). x86-64. */
#ifndef TESTS_TRACE_NOPS_ENTRY_H
#define TESTS_TRACE_NOPS_ENTRY_H

#include "entries.h"

#define NOPS 5

/* Returns its argument. Five nops, whatever the compiler makes of the attribute. */
unsigned long nops_entry(unsigned long argument);
__asm__(".text\n"
	".balign 16\n"
	"	.byte 0x0f, 0x0b, 0x0f, 0x0b\n"
	".globl nops_entry\n"
	".type nops_entry, @function\n"
	"nops_entry:\n"
	"	nop; nop; nop; nop; nop\n"
	"	mov %rdi, %rax\n"
	"	ret\n"
	".size nops_entry, . - nops_entry\n");

static int add_nops(void)
{
	entries[set.n++].ip = (uintptr_t)nops_entry;
	return add_entries();
}

#endif
