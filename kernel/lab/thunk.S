/* SPDX-License-Identifier: MIT */
/* The thunk of thunk.c. */
	.text
	.globl	lab_thunk, lab_thunk_jmp
lab_thunk:
	pushq	%r10
lab_thunk_jmp:
	jmpq	*%r11

	.section .note.GNU-stack, "", @progbits
