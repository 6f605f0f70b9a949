/* SPDX-License-Identifier: MIT */
/* Calls with the vector registers saved around them (process.h). */
#include "arch/aarch64/ftrace_save.inc"
#include "arch/aarch64/routine.inc"

	.text
	/* shunt_call_saving_vectors(func, a, b, c); shunt_saving_vectors(func, a) */
	.globl	shunt_saving_vectors
	.type	shunt_saving_vectors, %function
	routine	shunt_call_saving_vectors
shunt_saving_vectors:
	stp	x29, x30, [sp, #-16]!
	.cfi_adjust_cfa_offset 16
	.cfi_rel_offset x29, 0
	.cfi_rel_offset x30, 8
	mov	x29, sp
	.cfi_def_cfa x29, 16
	save_vectors
	mov	x16, x0
	mov	x0, x1
	mov	x1, x2
	mov	x2, x3
	blr	x16
	restore_vectors
	mov	sp, x29
	.cfi_def_cfa sp, 16
	ldp	x29, x30, [sp], #16
	.cfi_restore x29
	.cfi_restore x30
	.cfi_adjust_cfa_offset -16
	ret
	end_routine shunt_call_saving_vectors
	.size	shunt_saving_vectors, . - shunt_saving_vectors

	/* Bit 0: there is SVE; bit 1: there is SME. shunt_ask_vectors() sets it. */
	.bss
	.globl	shunt_has_sve
	.hidden	shunt_has_sve
	.type	shunt_has_sve, %object
	.size	shunt_has_sve, 1
shunt_has_sve:
	.zero	1

	end_file
