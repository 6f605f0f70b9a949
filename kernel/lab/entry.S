/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's entries of #BP, the probe that goes through a site and looks at every
 * register, the way out of a failed one, and the switch between two threads.
 */
#include "../entry.inc"
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

	.macro	trap_and_back
	call	lab_trap
	restore_registers
	addq	$16, %rsp
	iretq
	.endm

/* #BP with the gap: the same as trap_entry_bp (trap.S). */
	.balign	16
	.globl	lab_entry_gap
lab_entry_gap:
	pushq	$0
	make_gap
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	make_shadow_gap
	trap_and_back

/* Without, on either stack. */
	.balign	16
	.globl	lab_entry_plain
lab_entry_plain:
	pushq	$0
	pushq	$3
	save_registers
	cld
	movq	%rsp, %rdi
	xorl	%esi, %esi
	rdsspq	%rsi
	testq	%rsi, %rsi
	jz	1f
	subq	$8, %rsi
1:	trap_and_back

/*
 * void lab_probe(code, ret, struct lab_regs *regs): call @code with every register set to a
 * pattern of its own (registers_kept(), probe.c), and store what they are behind it. To the
 * target: r14 = what rsp must be there, r15 = @ret. The stack is aligned at the site's own
 * call: there an int3's frame ends at the very stack.
 */
	.balign	16
	.globl	lab_probe
lab_probe:
	push_callee_saved
	pushq	%rdx
	pushq	%rdi
	subq	$16, %rsp		/* = 8 modulo 16 */
	movq	%rdi, (%rsp)
	leaq	-16(%rsp), %r14
	movq	%rsi, %r15
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
	movl	$0x110d, %eax		/* LAB_WRONG_TARGET: unless a target says otherwise */
	call	*(%rsp)
	pushfq
	xchgq	%rbx, 32(%rsp)		/* regs */
	movq	%rax, 0x00(%rbx)
	movq	%rcx, 0x08(%rbx)
	movq	%rdx, 0x10(%rbx)
	movq	32(%rsp), %rax
	movq	%rax, 0x18(%rbx)
	movq	%rbp, 0x20(%rbx)
	movq	%rsi, 0x28(%rbx)
	movq	%rdi, 0x30(%rbx)
	movq	%r8, 0x38(%rbx)
	movq	%r9, 0x40(%rbx)
	movq	%r10, 0x48(%rbx)
	movq	%r11, 0x50(%rbx)
	movq	%r12, 0x58(%rbx)
	movq	%r13, 0x60(%rbx)
	popq	%rax
	movq	%rax, 0x68(%rbx)
	addq	$32, %rsp
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
