/* SPDX-License-Identifier: MIT */
/* The stub of int3_int3.c. */
	.text
	.globl	lab_int3_int3, lab_int3_int3_int3
lab_int3_int3:
	pushq	%gs:8
lab_int3_int3_int3:
	int3

	.section .note.GNU-stack, "", @progbits
