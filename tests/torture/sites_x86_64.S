/* SPDX-License-Identifier: MIT */
/*
 * The sites, the door to them, and the target. What surrounds a site is int3, so
 * that a thread that leaves the way dies at once.
 *
 * A target can tell a good call from a bad one: it gets the return address that it
 * must find on its stack, a word in the red zone, and registers that depend on the
 * argument. The door checks what a callee must not change.
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
	.type	torture_call, @function
torture_call:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rsi
	movq	%rdi, %r11
	movq	%rsi, %rdi
	movq	%rdx, %rsi
	leaq	.Lnext(%rip), %rax
	testq	%rsi, %rsi
	cmovzq	%rax, %rsi
	leaq	1(%rdi), %rdx
	leaq	2(%rdi), %rcx
	leaq	4(%rdi), %r8
	leaq	8(%rdi), %r9
	leaq	16(%rdi), %r10
	leaq	32(%rdi), %rax
	movq	%rdi, %xmm0
	leaq	3(%rdi), %rbx
	leaq	5(%rdi), %rbp
	leaq	6(%rdi), %r12
	leaq	7(%rdi), %r13
	leaq	9(%rdi), %r14
	movq	%rsp, %r15
	call	*%r11
.Lnext:
	cmpq	%rsp, %r15
	jne	.Lclobbered
	movq	(%rsp), %rdi
	leaq	3(%rdi), %rcx
	cmpq	%rcx, %rbx
	jne	.Lclobbered
	leaq	5(%rdi), %rcx
	cmpq	%rcx, %rbp
	jne	.Lclobbered
	leaq	6(%rdi), %rcx
	cmpq	%rcx, %r12
	jne	.Lclobbered
	leaq	7(%rdi), %rcx
	cmpq	%rcx, %r13
	jne	.Lclobbered
	leaq	9(%rdi), %rcx
	cmpq	%rcx, %r14
	je	.Ldone
.Lclobbered:
	movl	$TORTURE_CLOBBERED, %eax
	movq	%r15, %rsp
.Ldone:
	addq	$8, %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	torture_call, . - torture_call

/*
 * Target 0. The others are copies of it with another number at torture_target_magic;
 * it has no relative address in it.
 */
	.balign	64, 0xcc
	.globl	torture_target, torture_target_magic, torture_target_end
	.type	torture_target, @function
torture_target:
	endbr64
	cmpq	%rsi, (%rsp)
	jne	.Lbad
	cmpq	%rdi, -16(%rsp)
	jne	.Lbad
	addq	%rdx, %rax
	addq	%rcx, %rax
	addq	%r8, %rax
	addq	%r9, %rax
	addq	%r10, %rax
	imulq	$6, %rdi, %r11
	addq	$63, %r11
	cmpq	%r11, %rax
	jne	.Lbad
	movq	%xmm0, %r11
	cmpq	%r11, %rdi
	jne	.Lbad
	.byte	0x48, 0xb8		/* movabsq $magic, %rax */
torture_target_magic:
	.quad	TORTURE_MAGIC
	xorq	%rdi, %rax
	ret
.Lbad:
	movl	$TORTURE_BAD, %eax
	ret
torture_target_end:
	.size	torture_target, . - torture_target

/* A site's entry in a table: struct torture_site. */
.macro entry table, name, key, next, kind
	.pushsection .data.rel.ro.\table, "aw", @progbits
	.quad	\name, .Linsn_\name, \next, __SCK__\key, \kind
	.popsection
.endm

.macro call_site table, name, key, align, off
	.balign	64, 0xcc
\name:
	endbr64
	movq	%rdi, -32(%rsp)		/* 16 below the target's stack pointer */
	subq	$8, %rsp
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
	call	__SCT__\key
.Lnext_\name:
	addq	$8, %rsp
	ret
	entry	\table, \name, \key, .Lnext_\name, TORTURE_CALL
.endm

.macro jmp_site table, name, key, align, off
	.balign	64, 0xcc
\name:
	endbr64
	movq	%rdi, -16(%rsp)
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
	jmp	__SCT__\key
	entry	\table, \name, \key, 0, TORTURE_JMP
.endm

.macro jcc_site table, name, key, align, off
	.balign	64, 0xcc
\name:
	endbr64
	movq	%rdi, -16(%rsp)
	testb	$1, %dil
	jmp	.Linsn_\name
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
.Linsn_\name:
	jne	__SCT__\key
	movl	$TORTURE_BAD, %eax
	movl	$TORTURE_NOT_TAKEN, %ecx
	cmpq	%rdi, -16(%rsp)
	cmoveq	%rcx, %rax
	xorq	%rdi, %rax
	ret
	entry	\table, \name, \key, 0, TORTURE_JCC
.endm

	.pushsection .data.rel.ro.torture_single, "aw", @progbits
	.balign	8
	.globl	torture_single
torture_single:
	.popsection
	.pushsection .data.rel.ro.torture_batch, "aw", @progbits
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
	.balign	64, 0xcc

	.section .note.GNU-stack, "", @progbits
