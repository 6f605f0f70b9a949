/* SPDX-License-Identifier: MIT */
/*
 * The floor of a callback, in a shared object of its own, as libshunt's stubs are: a stub that saves
 * what C may change, calls a function, and restores. No guard, no ops to be taken away, no caller
 * behind a return stub.
 */
	.text
	.globl	trace_bare_stub
	.type	trace_bare_stub, @function
	.balign	64
trace_bare_stub:
	endbr64
	pushq	%rbp
	movq	%rsp, %rbp
	.irp	reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
	pushq	%\reg
	.endr
	movq	8(%rbp), %rdi
	movq	16(%rbp), %rsi
	leaq	trace_bare_func(%rip), %rdx
	leaq	-72(%rbp), %rcx
	call	*(%rdx)
	.irp	reg, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax, rbp
	popq	%\reg
	.endr
	ret
	.size	trace_bare_stub, . - trace_bare_stub

	/* (rdi: the function): what it calls. */
	.globl	trace_bare_set
	.type	trace_bare_set, @function
	.balign	64
trace_bare_set:
	movq	%rdi, trace_bare_func(%rip)
	ret
	.size	trace_bare_set, . - trace_bare_set

	.local	trace_bare_func
	.comm	trace_bare_func, 64, 64

	.section .note.GNU-stack, "", @progbits
