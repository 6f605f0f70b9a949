/* SPDX-License-Identifier: MIT */
/*
 * The stubs of call_1f.c: two for all, and one for each site. (Not a call of the very next
 * instruction, as in the message: that pushes nothing on the shadow stack.)
 */
	.macro	stub
	call	1f
	nop
1:	int3
	.endm

	.text
	.balign	8
	.globl	lab_call_1f
lab_call_1f:
	stub

	.balign	8
	.globl	lab_call_1f_irqs_on
lab_call_1f_irqs_on:
	stub

	.balign	8
	.globl	lab_call_1f_sites
lab_call_1f_sites:
	.rept	16
	stub
	.balign	8
	.endr

	.section .note.GNU-stack, "", @progbits
