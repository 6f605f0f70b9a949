/* SPDX-License-Identifier: MIT */
/* Two sites that have 2 MiB of text for themselves, so that these can be a huge page. */
	.section .text.mapped, "ax", @progbits
	.globl	mapped_site, mapped_branch, mapped_text, mapped_text_end
	.hidden	mapped_site, mapped_branch, mapped_text, mapped_text_end
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

/* long mapped_branch(long x): 5 * x, and 1 more where the key mapped_key is on. */
	.type	mapped_branch, @function
	.balign	64, 0xcc
mapped_branch:
	.cfi_startproc
	endbr64
	leaq	(%rdi, %rdi, 4), %rax
.Lbranch:
	.byte	0xa9 /* as <shunt/static_key.h> has it: the off form of the jmp */
	.long	.Lon - . - 4
	ret
.Lon:	incq	%rax
	ret
	.cfi_endproc
	.size	mapped_branch, . - mapped_branch
	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.long	.Lbranch - ., .Lon - ., _SKF__mapped_key - ., 0xd1f5a7c4
	.popsection
	.p2align 21, 0xcc
mapped_text_end:
	.section .note.GNU-stack, "", @progbits
