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

	/* shunt_call_saving_vectors(func, trace, gops, regs) */
	.balign	16
	.globl	shunt_call_saving_vectors
	.hidden	shunt_call_saving_vectors
	.type	shunt_call_saving_vectors, @function
shunt_call_saving_vectors:
	.cfi_startproc
	pushq	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	movq	%rdi, %r8
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	movq	%rcx, %r9
	save_vectors
	movq	%r9, %rdx
	call	*%r8
	restore_vectors
	leave
	.cfi_def_cfa %rsp, 8
	ret
	.cfi_endproc
	.size	shunt_call_saving_vectors, . - shunt_call_saving_vectors

	.section .note.GNU-stack, "", @progbits
