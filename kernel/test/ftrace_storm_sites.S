/* SPDX-License-Identifier: MIT */
/* Functions whose entries are where a compiler would not put them (ftrace_storm.c). */

	.section .text.storm, "ax", @progbits
	.balign	4096

	.macro	traceable name, at
	.org	\at, 0xcc
	.globl	\name
	.type	\name, @function
\name:
	.rept	5
	nop
	.endr
	ret
	.section __patchable_function_entries, "awo", @progbits, .text.storm
	.balign	8
	.quad	\name
	.section .text.storm
	.endm

	traceable work_line, 0x03e
	traceable work_bare, 0x100
	traceable work_page, 0xffe

	.text
	.globl	storm_call
storm_call:
	subq	$8, %rsp
	movq	%rdi, %rax
	movq	%rsi, %rdi
	pushq	%rdx
	popfq
	call	*%rax
	pushfq
	popq	%rax
	addq	$8, %rsp
	ret

	.section .note.GNU-stack, "", @progbits
