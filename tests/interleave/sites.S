/* SPDX-License-Identifier: MIT */
/*
 * The sites that the runner is stepped through, and the targets. A runner starts at
 * a site's function with the address of il_end as its return address. What
 * surrounds the code is int3.
 *
 * The targets lie so far apart that most bytes of a displacement change.
 */
#include "sites.h"

	.text
	.balign	64, 0xcc
	.globl	il_park, il_end
il_park:
	nop
il_end:
	nop
	.balign	64, 0xcc

.macro target name
	.globl	\name
	.type	\name, @function
\name:
	endbr64
	nop
	ret
	.size	\name, . - \name
.endm

	target	il_target_a
	.skip	0x012345, 0xcc
	target	il_target_b
	.skip	0x023456, 0xcc
	target	il_target_c
	.balign	64, 0xcc

/* Where the instruction stands; control comes there by a jmp. */
.macro place name, align, off
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
.endm

/* struct il_site */
.macro entry name, start, insn, next, jump
	.pushsection .data.rel.ro.il_sites, "aw", @progbits
	.balign	8
	.globl	il_site_\name
il_site_\name:
	.quad	\start, \insn, \next, \jump
	.popsection
.endm

.macro call_site name, align, off
	.balign	64, 0xcc
\name:
	leaq	-8(%rsp), %rsp
	nop
	place	\name, \align, \off
	call	__SCT__\name
.Lnext_\name:
	leaq	8(%rsp), %rsp
	ret
	entry	\name, \name, .Linsn_\name, .Lnext_\name, 0
.endm

.macro ret0_site name, align, off
	call_site \name, \align, \off
.endm

.macro null_site name, align, off
	call_site \name, \align, \off
.endm

/* Two calls of one key, one behind the other: what the second reaches is no older. */
.macro two_site name, align, off
	.balign	64, 0xcc
\name:
	leaq	-8(%rsp), %rsp
	nop
.Lfirst_\name:
	call	__SCT__\name
.Lbetween_\name:
	place	\name, \align, \off
	call	__SCT__\name
.Lnext_\name:
	leaq	8(%rsp), %rsp
	ret
	entry	\name, \name, .Lfirst_\name, .Lbetween_\name, 0
	.pushsection .data.rel.ro.il_sites, "aw", @progbits
	.quad	\name, .Linsn_\name, .Lnext_\name, 0
	.popsection
.endm

.macro jmp_site name, align, off
	.balign	64, 0xcc
\name:
	nop
	place	\name, \align, \off
	jmp	__SCT__\name
.Lnext_\name:
	entry	\name, \name, .Linsn_\name, .Lnext_\name, 0
.endm

.macro jmp_ret0_site name, align, off
	jmp_site \name, \align, \off
.endm

.macro jmp_null_site name, align, off
	jmp_site \name, \align, \off
.endm

.macro jcc_site name, align, off
	.balign	64, 0xcc
\name:
	nop
	place	\name, \align, \off
	jne	__SCT__\name
.Lnext_\name:
	nop
	ret
	entry	\name, \name, .Linsn_\name, .Lnext_\name, 0
.endm

/* The record of a static branch is what the header's macro makes, by hand. */
.macro branch_entry name, handle
	entry	\name, \name, .Linsn_\name, .Lnext_\name, .Ljump_\name
	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.long	.Linsn_\name - ., .Ljump_\name - ., \handle - ., 0xd1f5a7c3
	.popsection
.endm

.macro branch_site name, align, off
	.balign	64, 0xcc
\name:
	nop
	place	\name, \align, \off
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
.Lnext_\name:
	nop
	ret
	.skip	0x010203, 0xcc
.Ljump_\name:
	nop
	ret
	branch_entry \name, _SKF__\name
.endm

.macro branch2_site name, align, off
	.balign	64, 0xcc
\name:
	nop
	place	\name, \align, \off
	.byte	0xeb, .Ljump_\name - . - 1
.Lnext_\name:
	nop
	ret
	.skip	61, 0xcc
.Ljump_\name:
	nop
	ret
	branch_entry \name, _SKT__\name
.endm

#define SITE(kind, place, align, off) kind##_site il_##kind##_##place, align, off;
	IL_EACH_LONG(SITE)
	IL_EACH_VOID(SITE)
	IL_EACH_BRANCH(SITE)
	IL_EACH_SHORT(SITE)
	.balign	64, 0xcc

	.section .note.GNU-stack, "", @progbits
