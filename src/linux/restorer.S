/* SPDX-License-Identifier: MIT */
/*
 * What the SIGTRAP handler returns to: rt_sigreturn. Name and bytes are those of
 * glibc's, because debuggers and unwinders know a signal frame by them: gdb looks
 * at the name, libgcc at the bytes. No CFI, so that they do.
 */
	.text
	.balign	16
	nop
	.globl	shunt_restore_rt
	.hidden	shunt_restore_rt
	.type	__restore_rt, @function
	.type	shunt_restore_rt, @function
shunt_restore_rt:
__restore_rt:
	movq	$15, %rax
	syscall
	.size	__restore_rt, . - __restore_rt
	.size	shunt_restore_rt, . - shunt_restore_rt

	.section .note.GNU-stack, "", @progbits
