/* SPDX-License-Identifier: MIT */
/* Calls with the vector registers saved around them (process.h). */
#include "arch/x86_64/ftrace_save.inc"

	.text
	/* shunt_call_saving_vectors(func, a, b, c); shunt_saving_vectors(func, a) */
	.globl	shunt_saving_vectors
	.type	shunt_saving_vectors, @function
	.balign	16
	.globl	shunt_call_saving_vectors
	.hidden	shunt_call_saving_vectors
	.type	shunt_call_saving_vectors, @function
shunt_call_saving_vectors:
shunt_saving_vectors:
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
	.size	shunt_saving_vectors, . - shunt_saving_vectors

	.section .note.GNU-stack, "", @progbits
