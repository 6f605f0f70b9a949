/* SPDX-License-Identifier: MIT */
/*
 * Sites with hand-written unwind information, and single-stepping (unwind_sites.h).
 */
	.text

	.macro	begin name
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	.cfi_startproc
	endbr64
	.endm

	.macro	end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	begin	unwind_jmp
	jmp	__SCT__unwind
	end	unwind_jmp

	begin	unwind_jcc
	testq	%rdi, %rdi
	jne	__SCT__unwind
	movq	$-1, %rax
	ret
	end	unwind_jcc

	begin	unwind_jcc_not
	testq	%rdi, %rdi
	je	__SCT__unwind
	movq	$-1, %rax
	ret
	end	unwind_jcc_not

	begin	unwind_framed
	pushq	%rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	subq	$32, %rsp
	call	__SCT__unwind
	leave
	.cfi_def_cfa %rsp, 8
	ret
	end	unwind_framed

/* The trap flag (bit 8) is set around the call. Keeps rbx: the stack stays aligned. */
	begin	unwind_step
	pushq	%rbx
	.cfi_def_cfa_offset 16
	.cfi_offset %rbx, -16
	movq	%rdi, %rax
	movq	%rsi, %rdi
	pushfq
	.cfi_adjust_cfa_offset 8
	orq	$0x100, (%rsp)
	popfq
	.cfi_adjust_cfa_offset -8
	call	*%rax
	pushfq
	.cfi_adjust_cfa_offset 8
	andq	$~0x100, (%rsp)
	popfq
	.cfi_adjust_cfa_offset -8
	popq	%rbx
	.cfi_def_cfa_offset 8
	ret
	end	unwind_step

	.section .note.GNU-stack, "", @progbits
