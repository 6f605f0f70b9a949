/* SPDX-License-Identifier: MIT */
/* The laboratory's entries of #BP, but for those of schemes that bring their own. */
#include "../entry.inc"
#include "lab.h"

	.text

/* #BP with the gap: the same as trap_entry_bp (trap.S). */
	begin_gap_entry lab_entry_gap, lab_trap
	return_from_trap

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
1:	call	lab_trap
	return_from_trap

	.section .note.GNU-stack, "", @progbits
