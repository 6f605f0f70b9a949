/* SPDX-License-Identifier: MIT */
/* The way out of ptregs.c. */
#include "entry.inc"

	.text
/*
 * void lab_return_to_alternate_ptregs(struct trapframe *copy, uint64_t ssp): leave the
 * handler, and all that it was called by, through @copy, and through the shadow frame at
 * @ssp (0: none).
 */
	.globl	lab_return_to_alternate_ptregs
lab_return_to_alternate_ptregs:
	testq	%rsi, %rsi
	jz	1f
	rdsspq	%rax
	subq	%rax, %rsi
	shrq	$3, %rsi
	incsspq	%rsi
1:	movq	%rdi, %rsp
	restore_registers
	addq	$16, %rsp		/* vector, error code */
	iretq

	.section .note.GNU-stack, "", @progbits
