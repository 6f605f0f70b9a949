/* SPDX-License-Identifier: MIT */
/*
 * What a static call reaches while its key is NULL or RET0 and the site is on the
 * trampoline.
 */
	.text

/* void __static_call_nop(void): changes no register. */
	.balign	16
	.globl	__static_call_nop
	.type	__static_call_nop, @function
__static_call_nop:
	.cfi_startproc
	endbr64
	ret
	.cfi_endproc
	.size	__static_call_nop, . - __static_call_nop

/* long __static_call_return0(void): rax = 0; all else but the flags unchanged. */
	.balign	16
	.globl	__static_call_return0
	.type	__static_call_return0, @function
__static_call_return0:
	.cfi_startproc
	endbr64
	xorl	%eax, %eax
	ret
	.cfi_endproc
	.size	__static_call_return0, . - __static_call_return0

	.section .note.GNU-stack, "", @progbits
