/* SPDX-License-Identifier: MIT */
/* The entries of two negative controls of gap (gap.c). */
#include "../entry.inc"

	.text

/* lab_entry_gap (entry.S), and the words of gap-static (gap.c) go to their places at the end. */
#define FRAME_RIP 136
#define FRAME_RSP 160
	.balign	16
	.globl	lab_entry_gap_static
lab_entry_gap_static:
	pushq	$0
	make_gap
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	make_shadow_gap
	call	lab_trap
	movq	lab_static_words, %rax
	movq	FRAME_RSP(%rsp), %rcx
	movq	%rax, (%rcx)
	movq	lab_static_words + 8, %rax
	movq	%rax, FRAME_RIP(%rsp)
	restore_registers
	addq	$16, %rsp
	iretq

/* lab_entry_gap, but that the target is in a static word at one instruction, the second movq. */
	.balign	16
	.globl	lab_entry_gap_word
lab_entry_gap_word:
	pushq	$0
	make_gap
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	make_shadow_gap
	call	lab_trap
	movq	FRAME_RIP(%rsp), %rax
	movq	%rax, lab_static_words + 8
	movq	lab_static_words + 8, %rax
	movq	%rax, FRAME_RIP(%rsp)
	restore_registers
	addq	$16, %rsp
	iretq

	.section .note.GNU-stack, "", @progbits
