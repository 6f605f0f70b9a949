/* SPDX-License-Identifier: MIT */
/*
 * The probe that goes through a site and looks at every register, the way out of one that failed,
 * and the switch between two threads.
 */
#include "lab.h"

	.text

	.macro	push_callee_saved
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	.endm

	.macro	pop_callee_saved
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	.endm

/*
 * void lab_probe(code, struct lab_record *record): call @code with the flags of the record and
 * every register set to a pattern of its own, 0x1100 and on (changed_registers(), probe.c), but
 * for r14, which leads the target to the record, and rsp. Stores what rsp must be at the
 * target. What is there, the target stores (sites.S). The stack is aligned at the site's own
 * call: there an int3's frame ends at the very stack.
 */
	.balign	16
	.globl	lab_probe
lab_probe:
	push_callee_saved
	subq	$16, %rsp		/* = 8 modulo 16 */
	movq	%rdi, (%rsp)
	pushfq
	popq	8(%rsp)
	movq	%rsi, %r14
	leaq	-16(%rsp), %rax
	movq	%rax, RECORD_WANT_SP(%r14)
	movl	$0x1100, %eax
	movl	$0x1101, %ecx
	movl	$0x1102, %edx
	movl	$0x1103, %ebx
	movl	$0x1104, %ebp
	movl	$0x1105, %esi
	movl	$0x1106, %edi
	movl	$0x1107, %r8d
	movl	$0x1108, %r9d
	movl	$0x1109, %r10d
	movl	$0x110a, %r11d
	movl	$0x110b, %r12d
	movl	$0x110c, %r13d
	movl	$0x110d, %r15d
	pushq	RECORD_FLAGS(%r14)
	popfq
	call	*(%rsp)
	pushq	8(%rsp)
	popfq
	addq	$16, %rsp
	pop_callee_saved
	ret

/*
 * int lab_catch(struct lab_catch *): returns 0; and once more, with the number, when
 * lab_throw(struct lab_catch *, number) is called from deeper in the same thread. The
 * latter also lets NMIs in again, by an iretq, and takes the words of what is left behind
 * from the shadow stack.
 */
	.globl	lab_catch
lab_catch:
	movq	%rbx, 0x00(%rdi)
	movq	%rbp, 0x08(%rdi)
	movq	%r12, 0x10(%rdi)
	movq	%r13, 0x18(%rdi)
	movq	%r14, 0x20(%rdi)
	movq	%r15, 0x28(%rdi)
	movq	%rsp, 0x30(%rdi)
	xorl	%eax, %eax
	rdsspq	%rax
	movq	%rax, 0x38(%rdi)
	movq	(%rsp), %rax		/* later calls write over it, on both stacks */
	movq	%rax, 0x40(%rdi)
	xorl	%eax, %eax
	ret

	.globl	lab_throw
lab_throw:
	int	$0x5f
	xorl	%eax, %eax
	rdsspq	%rax
	testq	%rax, %rax
	jz	2f
1:	xorl	%eax, %eax
	rdsspq	%rax
	cmpq	0x38(%rdi), %rax
	ja	2f
	movl	$1, %eax
	incsspq	%rax
	jmp	1b
2:	movq	0x00(%rdi), %rbx
	movq	0x08(%rdi), %rbp
	movq	0x10(%rdi), %r12
	movq	0x18(%rdi), %r13
	movq	0x20(%rdi), %r14
	movq	0x28(%rdi), %r15
	movq	0x30(%rdi), %rsp
	addq	$8, %rsp
	movl	%esi, %eax
	jmpq	*0x40(%rdi)

/* What int $0x5f leads to. */
	.globl	lab_entry_iretq
lab_entry_iretq:
	iretq

/* void lab_switch(uint64_t *save, uint64_t load): go on with another stack, flags too. */
	.globl	lab_switch
lab_switch:
	push_callee_saved
	pushfq
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	popfq
	pop_callee_saved
	ret

	.section .note.GNU-stack, "", @progbits
