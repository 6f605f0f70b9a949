/* SPDX-License-Identifier: MIT */
/*
 * The sites, the door to them, and the target. What surrounds a site is udf, so
 * that a thread that leaves the way dies at once.
 *
 * A target can tell a good call from a bad one: it gets the return address that it
 * must find in x30, and registers that depend on the argument: all that a call may pass, and
 * those that no veneer may use. The door checks what a callee must not change.
 */
#include "sites.h"

	.text

/*
 * long torture_call(long (*site)(void), long arg, const void *next): call @site with
 * every argument register made from @arg, and @next as the return address that its
 * target shall find. NULL: that of a tail call, which is below.
 */
	.balign	16
	.globl	torture_call
	.type	torture_call, %function
torture_call:
	hint	#34			/* bti c */
	stp	x29, x30, [sp, #-112]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	str	x1, [sp, #96]
	mov	x15, x0
	mov	x0, x1
	adr	x9, .Lnext
	cmp	x2, #0
	csel	x1, x9, x2, eq
	add	x2, x0, #1
	add	x3, x0, #2
	add	x4, x0, #4
	add	x5, x0, #8
	add	x6, x0, #16
	add	x7, x0, #32
	add	x8, x0, #64
	add	x9, x0, #128
	add	x10, x0, #256
	add	x11, x0, #512
	add	x12, x0, #1024
	add	x13, x0, #2048
	add	x14, x0, #3
	fmov	d0, x0
	add	x19, x0, #3
	add	x20, x0, #5
	add	x21, x0, #6
	add	x22, x0, #7
	add	x23, x0, #9
	add	x24, x0, #10
	add	x25, x0, #11
	add	x26, x0, #12
	add	x27, x0, #13
	mov	x28, sp
	blr	x15
.Lnext:
	mov	x9, sp
	cmp	x9, x28
	b.ne	.Lclobbered
	ldr	x9, [x28, #96]
	add	x10, x19, x20
	add	x10, x10, x21
	add	x10, x10, x22
	add	x10, x10, x23
	add	x10, x10, x24
	add	x10, x10, x25
	add	x10, x10, x26
	add	x10, x10, x27
	add	x11, x9, x9, lsl #3	/* 9 arg, and 3 + 5 + 6 + 7 + 9 + 10 + 11 + 12 + 13 */
	add	x11, x11, #76
	cmp	x10, x11
	b.eq	.Ldone
.Lclobbered:
	ldr	w0, =TORTURE_CLOBBERED
	mov	sp, x28
.Ldone:
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	x29, x30, [sp], #112
	ret
	.size	torture_call, . - torture_call
	.ltorg

/*
 * Target 0. The others are copies of it with another number at torture_target_magic;
 * it has no address in it but of that.
 */
	.balign	64
	.globl	torture_target, torture_target_magic, torture_target_end
	.type	torture_target, %function
torture_target:
	hint	#34
	cmp	x30, x1
	b.ne	.Lbad
	add	x2, x2, x3
	add	x2, x2, x4
	add	x2, x2, x5
	add	x2, x2, x6
	add	x2, x2, x7
	add	x2, x2, x8
	add	x2, x2, x9
	add	x2, x2, x10
	add	x2, x2, x11
	add	x2, x2, x12
	add	x2, x2, x13
	add	x2, x2, x14
	add	x1, x0, x0, lsl #2	/* 13 arg + 4095 + 3 */
	add	x1, x1, x0, lsl #3
	mov	w3, #4098
	add	x1, x1, x3
	cmp	x2, x1
	b.ne	.Lbad
	fmov	x1, d0
	cmp	x1, x0
	b.ne	.Lbad
	ldr	x1, torture_target_magic
	eor	x0, x0, x1
	ret
.Lbad:
	mov	w0, #(TORTURE_BAD & 0xffff)
	movk	w0, #(TORTURE_BAD >> 16), lsl #16
	ret
	.balign	8
torture_target_magic:
	.quad	TORTURE_MAGIC
torture_target_end:
	.size	torture_target, . - torture_target

/* A site's entry in a table: struct torture_site. */
.macro entry table, name, key, next, kind
	.pushsection .data.rel.ro.\table, "aw", %progbits
	.quad	\name, .Linsn_\name, \next, __SCK__\key, \kind
	.popsection
.endm

.macro call_site table, name, key, align, off
	.balign	64, 0
\name:
	hint	#34
	stp	x29, x30, [sp, #-16]!
	b	.Linsn_\name
	.balign	\align, 0
	.if \off
	.skip	\off, 0
	.endif
.Linsn_\name:
	bl	__SCT__\key
.Lnext_\name:
	ldp	x29, x30, [sp], #16
	ret
	entry	\table, \name, \key, .Lnext_\name, TORTURE_CALL
.endm

.macro jmp_site table, name, key, align, off
	.balign	64, 0
\name:
	hint	#34
	b	.Linsn_\name
	.balign	\align, 0
	.if \off
	.skip	\off, 0
	.endif
.Linsn_\name:
	b	__SCT__\key
	entry	\table, \name, \key, 0, TORTURE_JMP
.endm

	.pushsection .data.rel.ro.torture_single, "aw", %progbits
	.balign	8
	.globl	torture_single
torture_single:
	.popsection
	.pushsection .data.rel.ro.torture_batch, "aw", %progbits
	.balign	8
	.globl	torture_batch
torture_batch:
	.popsection

#define SINGLE(n, kind, align, off) \
	kind##_site torture_single, torture_single_##n, torture_##n, align, off;
#define BATCH(n, kind, align, off) \
	kind##_site torture_batch, torture_batch_##n, torture, align, off;

	TORTURE_EACH_SITE(SINGLE)
	TORTURE_EACH_SITE(BATCH)
	.balign	64, 0

	.section .note.GNU-stack, "", %progbits
