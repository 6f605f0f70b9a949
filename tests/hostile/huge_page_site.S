/* SPDX-License-Identifier: MIT */
/* A site that has 2 MiB of text for itself, so that these can be a huge page. */
	.section .text.mapped, "ax", @progbits
	.globl	mapped_site, mapped_text, mapped_text_end
	.hidden	mapped_site, mapped_text, mapped_text_end
	.type	mapped_site, @function
	.p2align 21, 0xcc
mapped_text:
	.skip	4096, 0xcc
mapped_site:
	.cfi_startproc
	endbr64
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	__SCT__mapped_call
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	mapped_site, . - mapped_site
	.p2align 21, 0xcc
mapped_text_end:
	.section .note.GNU-stack, "", @progbits
