/* SPDX-License-Identifier: MIT */
/*
 * A conditional tail call of a static call. gcc never writes one, clang only where
 * it optimises for size; hence by hand, so that every variant has one.
 */
	.att_syntax prefix	/* under clang -masm=intel too */
	.text

/* int jcc_site(int edi): edi < 0: st_add(edi); else -1. */
	.balign	16
	.globl	jcc_site
	.type	jcc_site, @function
jcc_site:
	.cfi_startproc
	endbr64
	movl	$-1, %eax
	testl	%edi, %edi
	js	__SCT__st_add
	ret
	.cfi_endproc
	.size	jcc_site, . - jcc_site

	.section .note.GNU-stack, "", @progbits
