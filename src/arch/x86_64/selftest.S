/* SPDX-License-Identifier: MIT */
/*
 * The sites of the self-test (selftest.c): one of each form that an emulation can
 * take, all of the C type int (*)(void). Each returns 1 as it stands here.
 */
#include "arch/x86_64/routine.inc"

	.text

	.macro	site name
	.globl	\name
	.hidden	\name
\name:
	.endm

	routine	shunt_selftest_1
	movl	$1, %eax
	ret
	end_routine shunt_selftest_1

	routine	shunt_selftest_2
	movl	$2, %eax
	ret
	end_routine shunt_selftest_2

	/* A call. */
	routine	shunt_selftest_call
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	site	shunt_selftest_call_site
	.byte	0xe8
	.long	shunt_selftest_1 - . - 4
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
	end_routine shunt_selftest_call

	/* A tail call. */
	routine	shunt_selftest_jmp
	site	shunt_selftest_jmp_site
	.byte	0xe9
	.long	shunt_selftest_1 - . - 4
	end_routine shunt_selftest_jmp

	/* A conditional tail call, taken. */
	routine	shunt_selftest_jcc
	xorl	%eax, %eax
	site	shunt_selftest_jcc_site
	.byte	0x0f, 0x84
	.long	shunt_selftest_1 - . - 4
	ud2
	end_routine shunt_selftest_jcc

	/* A nop, which becomes a jmp over the first result to the second. */
	routine	shunt_selftest_nop
	site	shunt_selftest_nop_site
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	movl	$1, %eax
	ret
	end_routine shunt_selftest_nop

	/* The off form of a jmp to what returns 2. */
	routine	shunt_selftest_test
	site	shunt_selftest_test_site
	.byte	0xa9
	.long	shunt_selftest_2 - . - 4
	movl	$1, %eax
	ret
	end_routine shunt_selftest_test

	.section .note.GNU-stack, "", @progbits
