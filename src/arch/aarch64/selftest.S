/* SPDX-License-Identifier: MIT */
/*
 * The sites of the self-test (linux/show/selftest.c), all of the C type int (*)(void). Each
 * returns 1 as it stands here.
 */
#include "arch/aarch64/routine.inc"

	.text

	.macro	site name
	.globl	\name
	.hidden	\name
\name:
	.endm

	routine	shunt_selftest_1
	mov	w0, #1
	ret
	end_routine shunt_selftest_1

	routine	shunt_selftest_2
	mov	w0, #2
	ret
	end_routine shunt_selftest_2

	/* A call. */
	routine	shunt_selftest_call
	stp	x29, x30, [sp, #-16]!
	.cfi_adjust_cfa_offset 16
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	site	shunt_selftest_call_site
	bl	shunt_selftest_1
	ldp	x29, x30, [sp], #16
	.cfi_restore x29
	.cfi_restore x30
	.cfi_adjust_cfa_offset -16
	ret
	end_routine shunt_selftest_call

	/* A tail call. */
	routine	shunt_selftest_jmp
	site	shunt_selftest_jmp_site
	b	shunt_selftest_1
	end_routine shunt_selftest_jmp

	/* A nop, which becomes a b over the first result to the second. */
	routine	shunt_selftest_nop
	site	shunt_selftest_nop_site
	nop
	mov	w0, #1
	ret
	end_routine shunt_selftest_nop

	end_file
