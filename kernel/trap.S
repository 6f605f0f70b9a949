/* SPDX-License-Identifier: MIT */
/*
 * The 256 entries (trap.h). That of #BP stands apart: it is the beginning of the trap
 * path, and nothing in it, down to shunt_trap(), is ever poked.
 */
#include "entry.inc"

	.text

/*
 * #BP. The CPU has aligned the stack to 16 bytes and pushed ss, rsp, rflags, cs and
 * rip: its frame ends at the interrupted stack or 8 bytes below. An emulated call
 * pushes a word there. So the frame is copied out of the way first.
 */
	.balign	16
	.globl	trap_entry_bp
trap_entry_bp:
	pushq	$0			/* in the place of an error code */
	make_gap
	breakpoint_entry trap_breakpoint

/* All vectors, 32 bytes apart. Of the exceptions, these come with an error code. */
	.macro	numbered_entry
	.balign	32
	.if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
	.else
	pushq	$0
	.endif
	pushq	$vector
	jmp	common
	.endm

	.balign	32
	.globl	trap_entries
trap_entries:
	.set	vector, 0
	.rept	256
	numbered_entry
	.set	vector, vector + 1
	.endr

common:
	call_handler trap

	.section .note.GNU-stack, "", @progbits
