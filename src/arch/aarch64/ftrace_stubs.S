/* SPDX-License-Identifier: MIT */
/*
 * What a traced function's entry jumps to, by a stub of its own (struct shunt_entry_stub), which is
 * in x17: the ops that trace it are called one after the other. To the function it is as if nothing
 * had been called. There are two: for ops that change no vector register, and for all.
 *
 * The word below the guard, while a callback runs, is an address between shunt_ftrace_stubs and
 * shunt_ftrace_stubs_end (linux/entry/context.c).
 */
#include "arch/aarch64/ftrace_save.inc"
#include "arch/aarch64/routine.inc"

	.text
	.balign	64
	.globl	shunt_ftrace_stubs
	.hidden	shunt_ftrace_stubs
shunt_ftrace_stubs:

	/* \which: of the lists, for shunt_ftrace_begin(); x29: the frame. */
	.macro	call_each which
	sub	sp, sp, #FTRACE_CURSOR_SIZE + 16
	adr	x16, shunt_ftrace_stubs
	str	x16, [sp, #8]
	add	x0, sp, #16
	sub	x1, x29, #FTRACE_RECORD
	mov	x2, #\which
	bl	shunt_ftrace_begin
	b	.Lnext\@
.Lcall\@:
	mov	x2, x0
	ldp	x0, x1, [sp, #16 + FTRACE_CURSOR_IP]
	ldr	x3, [sp, #16 + FTRACE_CURSOR_REGS]
	ldr	x16, [x2]
	blr	x16
	add	x0, sp, #16
	bl	shunt_ftrace_next
.Lnext\@:
	cbnz	x0, .Lcall\@
	add	sp, sp, #FTRACE_CURSOR_SIZE + 16
	.endm

	stub_begin shunt_list_stub
	frame_begin FTRACE_FORM_HEAD
	frame_at_entry
	call_each 0
	frame_return
	end_routine shunt_list_stub

	stub_begin shunt_list_stub_full
	frame_begin FTRACE_FORM_HEAD
	frame_at_entry
	save_vectors
	call_each 1
	restore_vectors
	frame_return
	end_routine shunt_list_stub_full

	.globl	shunt_ftrace_stubs_end
	.hidden	shunt_ftrace_stubs_end
shunt_ftrace_stubs_end:

	/* shunt_port_trace_stub(): by form, the list's without and with vector registers. */
	.section .data.rel.ro.shunt_list_stubs, "aw", %progbits
	.balign	8
	.globl	shunt_list_stubs
	.hidden	shunt_list_stubs
	.type	shunt_list_stubs, %object
shunt_list_stubs:
	.quad	shunt_list_stub, shunt_list_stub_full
	.zero	5 * 16
	.size	shunt_list_stubs, . - shunt_list_stubs

	end_file
