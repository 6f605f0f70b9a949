/* SPDX-License-Identifier: MIT */
/*
 * What the SIGTRAP handler returns to: rt_sigreturn. Name and bytes are those of
 * glibc's, because debuggers and unwinders know a signal frame by them: gdb looks at
 * the name, libgcc at the bytes. LLVM's libunwind wants to be told: hence the CFI. Here
 * rsp is the address of the ucontext, where all registers are. It covers the byte
 * before, because a return address is looked up by the instruction before it.
 */
#define UC_GREGS 40 /* offsetof(ucontext_t, uc_mcontext.gregs) */

	/* Register number @number of DWARF's is at UC_GREGS + 8 * @greg: DW_CFA_expression. */
	.macro	saved number greg
	.cfi_escape 0x10, \number, 3, 0x77, \
		0x80 | ((UC_GREGS + 8 * \greg) & 0x7f), (UC_GREGS + 8 * \greg) >> 7
	.endm

	.text
	.balign	16
	.cfi_startproc simple
	.cfi_signal_frame
	/* CFA = the interrupted rsp: DW_CFA_def_cfa_expression, DW_OP_breg7, DW_OP_deref. */
	.cfi_escape 0x0f, 4, 0x77, 0x80 | ((UC_GREGS + 8 * 15) & 0x7f), \
		(UC_GREGS + 8 * 15) >> 7, 0x06
	saved	8, 0
	saved	9, 1
	saved	10, 2
	saved	11, 3
	saved	12, 4
	saved	13, 5
	saved	14, 6
	saved	15, 7
	saved	5, 8  /* rdi */
	saved	4, 9  /* rsi */
	saved	6, 10 /* rbp */
	saved	3, 11 /* rbx */
	saved	1, 12 /* rdx */
	saved	0, 13 /* rax */
	saved	2, 14 /* rcx */
	saved	7, 15 /* rsp */
	saved	16, 16 /* rip */
	nop
	.globl	shunt_restore_rt
	.hidden	shunt_restore_rt
	.type	__restore_rt, @function
	.type	shunt_restore_rt, @function
shunt_restore_rt:
__restore_rt:
	movq	$15, %rax
	syscall
	.cfi_endproc
	.size	__restore_rt, . - __restore_rt
	.size	shunt_restore_rt, . - shunt_restore_rt

	/* For shunt_die_of_trap(). */
	.globl	shunt_restore_int3
	.hidden	shunt_restore_int3
shunt_restore_int3:
	int3

	.section .note.GNU-stack, "", @progbits
