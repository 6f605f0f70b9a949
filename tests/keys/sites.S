/* SPDX-License-Identifier: MIT */
/*
 * Branch sites at places that no compiler can be told of: a nop of 5 bytes and a jmp
 * rel8 at each of the 64 offsets of a cache line, and across a page in each way. The
 * entries are what the header's macro makes, by hand.
 *
 * Each site is a function that returns 1 where its branch jumps, 0 where not.
 */
	.text

/* With FLIPS as by the header of today; else as by older ones. */
#ifdef FLIPS
#define MAGIC 0xd1f5a7c4
#else
#define MAGIC 0xd1f5a7c3
#endif

/* Site @n: 5-byte nop (or the off form of the jmp) at first, of the key element[@n] and of the key shared. */
.macro nop_site name, handle, index, align, off
	.balign	64, 0xcc
\name:
	endbr64
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
#ifdef FLIPS
	.byte	0xa9
	.long	.Ljumped_\name - . - 4
#else
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
#endif
	xorl	%eax, %eax
	ret
	/* So far that every byte of the displacement counts. */
	.pushsection .text.branch_far, "ax", @progbits
	.skip	0x010101
.Ljumped_\name:
	movl	$1, %eax
	ret
	.popsection
	entry	\name, \handle, \index, 0
.endm

/* A jmp rel8 at first: "unlikely" of a key that starts out true. */
.macro jmp_site name, handle, index, align, off
	.balign	64, 0xcc
\name:
	endbr64
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
	.byte	0xeb, .Ljumped_\name - . - 1
	xorl	%eax, %eax
	ret
	.skip	61, 0xcc
.Ljumped_\name:
	movl	$1, %eax
	ret
	entry	\name, \handle, \index, 0
.endm

.macro entry name, handle, index, flag
	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.long	.Linsn_\name - ., .Ljumped_\name - ., \handle + 16 * \index + \flag - ., MAGIC
	.popsection
	.pushsection .data.rel.ro.branch_sites, "aw", @progbits
	.quad	\name, .Linsn_\name
	.popsection
.endm

	.pushsection .data.rel.ro.branch_sites, "aw", @progbits
	.balign	8
	.globl	branch_sites
branch_sites:
	.popsection

/*
 * First those of the keys element_false[0..67] and element_true[0..64], then as many of
 * shared_false and shared_true.
 */
	.altmacro
.macro one kind, prefix, n, handle, index, align, off
	\kind\()_site \prefix\()_\n, \handle, \index, \align, \off
.endm

	.set	i, 0
	.rept	64
	one	nop, element_nop, %i, _SKF__element_false, %i, 64, %i
	.set	i, i + 1
	.endr
	.rept	4
	one	nop, element_nop, %i, _SKF__element_false, %i, 4096, %(4096 - 68 + i)
	.set	i, i + 1
	.endr
	.set	i, 0
	.rept	64
	one	jmp, element_jmp, %i, _SKT__element_true, %i, 64, %i
	.set	i, i + 1
	.endr
	one	jmp, element_jmp, %i, _SKT__element_true, %i, 4096, 4095

	.set	i, 0
	.rept	64
	one	nop, shared_nop, %i, _SKF__shared_false, 0, 64, %i
	.set	i, i + 1
	.endr
	.rept	4
	one	nop, shared_nop, %i, _SKF__shared_false, 0, 4096, %(4096 - 68 + i)
	.set	i, i + 1
	.endr
	.set	i, 0
	.rept	64
	one	jmp, shared_jmp, %i, _SKT__shared_true, 0, 64, %i
	.set	i, i + 1
	.endr
	one	jmp, shared_jmp, %i, _SKT__shared_true, 0, 4096, 4095

	.section .note.GNU-stack, "", @progbits
