/* SPDX-License-Identifier: MIT */
/* The laboratory's entries of #BP, but for those of schemes that bring their own. */
#include "../entry.inc"
#include "lab.h"

	.text

	.macro	trap_and_back
	call	lab_trap
	restore_registers
	addq	$16, %rsp
	iretq
	.endm

/* #BP with the gap: the same as trap_entry_bp (trap.S). */
	.balign	16
	.globl	lab_entry_gap
lab_entry_gap:
	pushq	$0
	make_gap
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	make_shadow_gap
	trap_and_back

/* Without, on either stack. */
	.balign	16
	.globl	lab_entry_plain
lab_entry_plain:
	pushq	$0
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	xorl	%esi, %esi
	rdsspq	%rsi
	testq	%rsi, %rsi
	jz	1f
	subq	$8, %rsi
1:	trap_and_back

	.section .note.GNU-stack, "", @progbits
