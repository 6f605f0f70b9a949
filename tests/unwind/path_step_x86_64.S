/* SPDX-License-Identifier: MIT */
/*
 * Single-stepping, and what must not be missed: a trampoline and a veneer of which
 * no unwinder knows.
 */
	.text

/*
 * long path_step(path_fn *fn, long arg): the trap flag (bit 8) is set around the call.
 * The red zone is not ours to care about: this is a function of its own.
 */
	.balign	16
	.globl	path_step
	.type	path_step, @function
path_step:
	.cfi_startproc
	endbr64
	movq	%rdi, %rax
	movq	%rsi, %rdi
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
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
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_endproc
	.size	path_step, . - path_step

/* long path_bare(long arg): a trampoline as others are, but without CFI. */
	.balign	16
	.globl	path_bare
	.type	path_bare, @function
path_bare:
	endbr64
	jmp	*path_hook(%rip)
	.size	path_bare, . - path_bare

	.section .note.GNU-stack, "", @progbits
