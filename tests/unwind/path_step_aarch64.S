/* SPDX-License-Identifier: MIT */
/*
 * Single-stepping, and what must not be missed: a trampoline and a veneer of which
 * no unwinder knows.
 */
	.text

/* long path_step(path_fn *fn, long arg): the tracer steps from the brk to the end. */
	.balign	16
	.globl	path_step, path_step_end
	.type	path_step, %function
path_step:
	.cfi_startproc
	hint	#34
	stp	x29, x30, [sp, #-32]!
	.cfi_def_cfa_offset 32
	.cfi_offset x29, -32
	.cfi_offset x30, -24
	stp	x19, x20, [sp, #16]
	.cfi_offset x19, -16
	.cfi_offset x20, -8
	mov	x29, sp
	mov	x19, x0
	mov	x20, x1
	bl	path_step_begin
	mov	x0, x20
	brk	#1
	blr	x19
path_step_end:
	nop
	ldp	x19, x20, [sp, #16]
	ldp	x29, x30, [sp], #32
	.cfi_restore x19
	.cfi_restore x20
	.cfi_restore x29
	.cfi_restore x30
	.cfi_def_cfa_offset 0
	ret
	.cfi_endproc
	.size	path_step, . - path_step

/* long path_bare(long arg): a trampoline as others are, but without CFI. */
	.balign	16
	.globl	path_bare
	.type	path_bare, %function
path_bare:
	hint	#34
	adrp	x16, path_hook
	ldr	x16, [x16, :lo12:path_hook]
	br	x16
	.size	path_bare, . - path_bare

	.section .note.GNU-stack, "", %progbits
