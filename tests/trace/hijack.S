/* SPDX-License-Identifier: MIT */
/* A tracer in small, for the tests of the return stubs alone: what -mfentry calls, and the stubs. */
	.macro	save
	.irp	reg, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11
	pushq	%\reg
	.cfi_adjust_cfa_offset 8
	.endr
	.endm

	.macro	restore
	.irp	reg, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
	popq	%\reg
	.cfi_adjust_cfa_offset -8
	.endr
	.endm

	.text
	.globl	__fentry__
	.type	__fentry__, @function
__fentry__:
	.cfi_startproc
	save
	leaq	80(%rsp), %rdi
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	call	hijack_entry
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	restore
	ret
	.cfi_endproc
	.size	__fentry__, . - __fentry__

	.globl	shunt_on_return
	.hidden	shunt_on_return
	.type	shunt_on_return, @function
shunt_on_return:
	.cfi_startproc
	save
	leaq	72(%rsp), %rdi
	call	hijack_return
	restore
	ret
	.cfi_endproc
	.size	shunt_on_return, . - shunt_on_return

	.section .note.GNU-stack, "", @progbits
