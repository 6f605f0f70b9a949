/* SPDX-License-Identifier: MIT */
/*
 * bool shunt_iret(void): serialise this CPU by returning to the next instruction. Of the
 * serialising instructions that user space has, iret is the one that no hypervisor
 * intercepts (cpuid is, at the price of microseconds), and that is in every CPU
 * (serialize is not). The Linux kernel does the same in iret_to_self().
 *
 * False, with nothing done, on a thread with a user shadow stack: iret would want a
 * return address from there.
 */
	.text
	.balign	16
	.globl	shunt_iret
	.hidden	shunt_iret
	.type	shunt_iret, @function
shunt_iret:
	.cfi_startproc
	xorl	%eax, %eax
	rdsspq	%rax /* a nop where there is none */
	testq	%rax, %rax
	jnz	1f
	movq	%rsp, %rax
	movl	%ss, %ecx
	pushq	%rcx
	.cfi_adjust_cfa_offset 8
	pushq	%rax
	.cfi_adjust_cfa_offset 8
	pushfq
	.cfi_adjust_cfa_offset 8
	movl	%cs, %ecx
	pushq	%rcx
	.cfi_adjust_cfa_offset 8
	leaq	0f(%rip), %rcx
	pushq	%rcx
	.cfi_adjust_cfa_offset 8
	iretq
	.cfi_adjust_cfa_offset -40
0:	movl	$1, %eax
	ret
1:	xorl	%eax, %eax
	ret
	.cfi_endproc
	.size	shunt_iret, . - shunt_iret

	.section .note.GNU-stack, "", @progbits
