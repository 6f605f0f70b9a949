/* SPDX-License-Identifier: MIT */
/* A tail call on a condition: this CPU has none that reaches as far, so around it. */
	.text
	.globl	host_jcc
	.type	host_jcc, %function
host_jcc:
	hint	#34			/* bti c */
	cbz	w0, 1f
	b	__SCT__host_call
1:	mov	w0, #-1
	ret
	.size	host_jcc, . - host_jcc
	.section .note.GNU-stack, "", %progbits
