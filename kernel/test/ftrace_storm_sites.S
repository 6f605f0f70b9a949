/* SPDX-License-Identifier: MIT */
/*
 * Functions whose entries are where a compiler would not put them, and an entry of #BP
 * that does not execute the instruction (ftrace_storm.c).
 */
#include "entry.inc"

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

	.balign	16
	.globl	storm_regs_caller_entry
storm_regs_caller_entry:
	pushq	$0
	make_gap
	breakpoint_entry storm_regs_caller

	.balign	16
	.globl	storm_skip_entry
storm_skip_entry:
	pushq	$0			/* in the place of an error code */
	pushq	$3
	call_handler storm_skip

	.section .note.GNU-stack, "", @progbits
