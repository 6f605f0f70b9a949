/* SPDX-License-Identifier: MIT */
/* The entries of two negative controls of gap (gap.c). */
#include "../entry.inc"

	.text

/* lab_entry_gap (entry.S), and the words of gap-static (gap.c) go to their places at the end. */
#define FRAME_RIP 136
#define FRAME_RSP 160
	begin_gap_entry lab_entry_gap_static, lab_trap
	movq	lab_static_words, %rax
	movq	FRAME_RSP(%rsp), %rcx
	movq	%rax, (%rcx)
	movq	lab_static_words + 8, %rax
	movq	%rax, FRAME_RIP(%rsp)
	return_from_trap

/* lab_entry_gap, but that the target is in a static word at one instruction, the second movq. */
	begin_gap_entry lab_entry_gap_word, lab_trap
	movq	FRAME_RIP(%rsp), %rax
	movq	%rax, lab_static_words + 8
	movq	lab_static_words + 8, %rax
	movq	%rax, FRAME_RIP(%rsp)
	return_from_trap

	.section .note.GNU-stack, "", @progbits
