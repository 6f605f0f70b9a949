/* SPDX-License-Identifier: MIT */
/* Conditional tail calls for the fixture: gcc never writes one. */
	.att_syntax prefix
	.text

	.macro	conditional name, tramp
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	.cfi_startproc
	endbr64
	xorl	%eax, %eax
	testq	%rdi, %rdi
	js	\tramp
	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm

/* long NAME(long x): x < 0: static_call(...)(x); else 0. */
	conditional conditional, __SCT__call
	conditional conditional_ret0, __SCT__ret0

	.section .note.GNU-stack, "", @progbits
