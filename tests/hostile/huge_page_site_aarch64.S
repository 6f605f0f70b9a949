/* SPDX-License-Identifier: MIT */
/* Two sites that have 2 MiB of text for themselves, so that these can be a huge page. */
	.section .text.mapped, "ax", %progbits
	.globl	mapped_site, mapped_branch, mapped_text, mapped_text_end
	.hidden	mapped_site, mapped_branch, mapped_text, mapped_text_end
	.type	mapped_site, %function
	.p2align 21
mapped_text:
	.skip	4096
mapped_site:
	.cfi_startproc
	hint	#34			/* bti c */
	stp	x29, x30, [sp, #-16]!
	.cfi_adjust_cfa_offset 16
	.cfi_rel_offset x30, 8
	bl	__SCT__mapped_call
	ldp	x29, x30, [sp], #16
	.cfi_adjust_cfa_offset -16
	.cfi_restore x30
	ret
	.cfi_endproc
	.size	mapped_site, . - mapped_site

/* long mapped_branch(long x): 5 * x, and 1 more where the key mapped_key is on. */
	.type	mapped_branch, %function
	.balign	64
mapped_branch:
	.cfi_startproc
	hint	#34
	add	x0, x0, x0, lsl #2
.Lbranch:
	nop
	ret
.Lon:	add	x0, x0, #1
	ret
	.cfi_endproc
	.size	mapped_branch, . - mapped_branch
	.pushsection .static_jumps, "a", %progbits
	.balign	4
	.long	.Lbranch - ., .Lon - ., _SKF__mapped_key - ., 0xd1f5a7c3
	.popsection
	.p2align 21
mapped_text_end:
	.section .note.GNU-stack, "", %progbits
