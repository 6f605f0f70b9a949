/* SPDX-License-Identifier: MIT */
/* The sites of the self-test (selftest.c), all of the C type long (*)(void). */
	.text

	.macro	routine name
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	.endm

	.macro	call_site name, key
	routine	\name
	subq	$8, %rsp		/* aligned at the call: there the gap is needed most */
	movl	$7, %eax
	call	__SCT__\key
	addq	$8, %rsp
	ret
	.endm

	.macro	tail_site name, key
	routine	\name
	movl	$7, %eax
	jmp	__SCT__\key
	.endm

	call_site selftest_call, selftest_key
	call_site selftest_ret0_call, selftest_ret0
	call_site selftest_null_call, selftest_null
	tail_site selftest_tail, selftest_key
	tail_site selftest_ret0_tail, selftest_ret0
	tail_site selftest_null_tail, selftest_null

	routine	selftest_jcc
	xorl	%eax, %eax
	jz	__SCT__selftest_key
	ud2

	routine	selftest_jcc_not_taken
	movl	$7, %eax
	testl	%eax, %eax
	jz	__SCT__selftest_key
	ret

	routine	selftest_one
	movl	$1, %eax
	ret

	routine	selftest_two
	movl	$2, %eax
	ret

	/* To C it returns nothing. */
	routine	selftest_set_two
	movl	$2, %eax
	ret

	.section .note.GNU-stack, "", @progbits
