/* SPDX-License-Identifier: MIT */
/*
 * The sites and targets of the production test, at chosen places of three pages.
 *
 * All else there is `ret`, and the sites start with rax = WRONG_TARGET. The targets
 * lie so that the displacements to any two of them differ in two bytes, and
 * so that a displacement mixed of two of them leads to one of the `ret`s. So a torn
 * instruction shows as a result.
 */
#include "production.h"

	.section .text.production, "ax", @progbits
	.balign	4096

/*
 * long site(struct expected *): stores where its call returns to, and sets the flags; the
 * target compares both. @at: where on the first two pages the instruction stands. The
 * stack is aligned at the call: there an int3's frame ends at the very stack.
 */
	.macro	prologue name
	.globl	\name
\name:
	.endm

	.macro	call_site name, at
	prologue \name
	subq	$8, %rsp
	leaq	1f(%rip), %rax
	movq	%rax, (%rdi)
	movq	$WRONG_TARGET, %rax
	pushq	8(%rdi)
	popfq
	jmp	0f
	.org	\at, 0xc3
0:	call	__SCT__production_call
1:	addq	$8, %rsp
	ret
	.endm

	/* A tail call: returns to its caller's caller. */
	.macro	tail_site name, at
	prologue \name
	movq	(%rsp), %rax
	movq	%rax, (%rdi)
	movq	$WRONG_TARGET, %rax
	pushq	8(%rdi)
	popfq
	jmp	0f
	.org	\at, 0xc3
0:	jmp	__SCT__production_call
	.endm

	/* A conditional one, taken. */
#define SIGN_FLAG 0x80
	.macro	jcc_site name, at
	prologue \name
	movq	(%rsp), %rax
	movq	%rax, (%rdi)
	movq	$WRONG_TARGET, %rax
	orq	$SIGN_FLAG, 8(%rdi)
	pushq	8(%rdi)
	popfq
	jmp	0f
	.org	\at, 0xc3
0:	js	__SCT__production_call
	ret
	.endm

	/* A call and a tail call that are switched: 0 where they are off. */
	.macro	switched_call_site name, at
	prologue \name
	subq	$8, %rsp
	leaq	1f(%rip), %rax
	movq	%rax, (%rdi)
	xorl	%eax, %eax
	pushq	8(%rdi)
	popfq
	jmp	0f
	.org	\at, 0xc3
0:	call	__SCT__production_switched
1:	addq	$8, %rsp
	ret
	.endm

	.macro	switched_tail_site name, at
	prologue \name
	movq	(%rsp), %rax
	movq	%rax, (%rdi)
	xorl	%eax, %eax
	pushq	8(%rdi)
	popfq
	jmp	0f
	.org	\at, 0xc3
0:	jmp	__SCT__production_switched
	.endm

	call_site production_aligned, 0x040
	call_site production_line_1, 0x0bf	/* opcode | displacement */
	call_site production_line_2, 0x13e	/* the displacement's first byte | the others */
	tail_site production_tail, 0x1be
	jcc_site production_jcc, 0x23d		/* behind the opcode's two bytes, and one more */
	call_site production_page, 0xffe	/* the same across a page */
	switched_call_site production_switched_line, 0x10bf	/* as those */
	switched_tail_site production_switched_tail, 0x113e
	switched_call_site production_switched_page, 0x1ffe

/*
 * long target(struct expected *): its number, or WRONG_RETURN or WRONG_FLAGS. (No other
 * register than rax and rcx.)
 */
	.macro	target number, at
	.org	\at, 0xc3
	.globl	production_target_\number
production_target_\number:
	movl	$\number, %ecx
	jmp	check
	.endm

	target 0, 0x2110
	target 1, 0x2230
	target 2, 0x2350
	target 3, 0x2470

	/* Where a call goes whose displacement is 0x10 off (flip_two, hooks.h). */
	.macro	astray at
	.org	\at, 0xc3
	movq	$WRONG_TARGET, %rax
	ret
	.endm

	/* As target 1; to C it returns nothing, as what may be NULL does. */
	astray 0x2580
	.org	0x2590, 0xc3
	.globl	production_target_switched
production_target_switched:
	movl	$1, %ecx
	jmp	check
	astray 0x25a0
	.org	0x2800, 0xc3
check:
	pushfq
	popq	%rax
	cmpq	%rax, 8(%rdi)
	je	1f
	movl	$WRONG_FLAGS, %ecx
1:	movq	(%rsp), %rax
	cmpq	(%rdi), %rax
	movl	$WRONG_RETURN, %eax
	cmovel	%ecx, %eax
	cltq
	ret
	.org	0x3000, 0xc3

	.section .note.GNU-stack, "", @progbits
