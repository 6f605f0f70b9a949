/* SPDX-License-Identifier: MIT */
/*
 * The sites of `shunt selftest`, one of each form. In assembly, so that they have
 * these forms whatever the compiler and its options. Each is a function of the C
 * calling convention.
 */
#include "arch/x86_64/routine.inc"

	.text

	.macro	call_site name, instruction:vararg
	routine \name
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	\instruction
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
	end_routine \name
	.endm

	.macro	tail_site name, instruction:vararg
	routine \name
	\instruction
	end_routine \name
	.endm

/* long NAME(long x): static_call(selftest)(x) */
	call_site site_call, call __SCT__selftest
	call_site site_call_got, call *__SCT__selftest@GOTPCREL(%rip)
	tail_site site_tail, jmp __SCT__selftest
	tail_site site_tail_got, jmp *__SCT__selftest@GOTPCREL(%rip)

/* The same for x >= 0; else -1. */
	routine site_conditional
	movq	$-1, %rax
	testq	%rdi, %rdi
	jns	__SCT__selftest
	ret
	end_routine site_conditional

/* void NAME(long x): static_call(selftest_null)(x) */
	call_site site_null_call, call __SCT__selftest_null
	tail_site site_null_tail, jmp __SCT__selftest_null

/* long NAME(long x): static_call(selftest_ret0)(x) */
	call_site site_ret0_call, call __SCT__selftest_ret0
	tail_site site_ret0_tail, jmp __SCT__selftest_ret0

	.section .note.GNU-stack, "", @progbits
