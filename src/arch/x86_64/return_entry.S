/* SPDX-License-Identifier: MIT */
/*
 * What return stubs call (return_stubs.S), with the stack pointer 8 below what the function has left:
 * the word that it returned by holds the address in the stub. All registers are as the function
 * left them, and stay so: its caller may know which ones it leaves alone.
 */
#include "arch/x86_64/ftrace_save.inc"
#include "arch/x86_64/stub.inc"

#define WANTS_RAW 1 /* SHUNT_WANTS_* in fgraph.h: above it are those with a graph's */

	.text
	.balign	64
	.globl	shunt_on_return
	.hidden	shunt_on_return
	.type	shunt_on_return, @function
shunt_on_return:
	.cfi_startproc
	cmpb	$WANTS_RAW, shunt_returns_wanted(%rip)
	ja	2f
	jb	1f
	save_sparingly
	leaq	40(%rsp), %rsi
	xorl	%edi, %edi
	call	*shunt_raw_return(%rip)
	restore_sparingly
1:	ret
2:	frame_begin
	save_registers FTRACE_FORM_STUB
	cld
	leaq	-FTRACE_REGS_SIZE(%rbp), %rdi
	movq	%rsp, %rsi
	call	shunt_graph_returned
	restore_registers
	.globl	shunt_on_return_end
	.hidden	shunt_on_return_end
shunt_on_return_end:
	.cfi_endproc
	.size	shunt_on_return, . - shunt_on_return

	.section .note.GNU-stack, "", @progbits
