/* SPDX-License-Identifier: MIT */
/* A conditional tail call, which gcc does not make. */
	.text
	.globl	host_jcc
	.type	host_jcc, @function
host_jcc:
	endbr64
	testl	%edi, %edi
	jne	__SCT__host_call
	movl	$-1, %eax
	ret
	.size	host_jcc, . - host_jcc
	.section .note.GNU-stack, "", @progbits
