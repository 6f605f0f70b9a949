/* SPDX-License-Identifier: MIT */
/*
 * What entries come to that are traced for the recorder alone: its hook, with no guard and no record
 * (core/ftrace_raw.h). x17 is the entry's own stub.
 */
#include "arch/aarch64/ftrace_save.inc"
#include "arch/aarch64/routine.inc"

	/* The hook of entries; w2: how. */
	.macro	call_entry
	ldr	x0, [sp, #FTRACE_IP]
	ldr	x1, [sp, #FTRACE_SP]
	adrp	x16, shunt_raw_entry
	ldr	x16, [x16, :lo12:shunt_raw_entry]
	blr	x16
	.endm

	.text
	/*
	 * A function whose return is told by a return stub.
	 */
	routine	shunt_raw_stub_head
	frame_cfi_begin
	frame_begin FTRACE_FORM_HEAD
	frame_at_entry
	add	x0, sp, #FTRACE_X30
	bl	shunt_raw_replace
	mov	w2, w0
	call_entry
	frame_return
	end_routine shunt_raw_stub_head

	/* One whose return is told by nobody. */
	routine	shunt_raw_stub_entry
	frame_cfi_begin
	frame_begin FTRACE_FORM_HEAD
	frame_at_entry
	adrp	x16, shunt_raw_how
	ldr	w2, [x16, :lo12:shunt_raw_how]
	call_entry
	frame_return
	end_routine shunt_raw_stub_entry

	/* The stubs have saved everything. */
	routine	shunt_raw_saving_entry
	adrp	x16, shunt_raw_hook_entry
	ldr	x16, [x16, :lo12:shunt_raw_hook_entry]
	br	x16
	end_routine shunt_raw_saving_entry

	routine	shunt_raw_saving_return
	adrp	x16, shunt_raw_hook_return
	ldr	x16, [x16, :lo12:shunt_raw_hook_return]
	br	x16
	end_routine shunt_raw_saving_return

	/* By form (linux/entry/raw.c). */
	.section .data.rel.ro.shunt_raw_stubs, "aw", %progbits
	.balign	8
	.globl	shunt_raw_stubs
	.hidden	shunt_raw_stubs
	.type	shunt_raw_stubs, %object
shunt_raw_stubs:
	.quad	shunt_raw_stub_entry
	.zero	5 * 8
	.size	shunt_raw_stubs, . - shunt_raw_stubs

	end_file
