/* SPDX-License-Identifier: MIT */
/* The loops of the functions that are traced, alike but for the function (loop.inc). */
#include "loop.inc"

	.macro	TRACE_LOOP name, function
	.hidden	\name, \function
	LOOP	\name, trace_nothing, trace_nothing, call \function
	.endm

	.local	trace_nothing
	.comm	trace_nothing, 8

	/* Calls trace_bare.S, out of reach of a call, in the way that an entry calls libshunt's stubs. */
	.text
	.globl	trace_f_bare
	.type	trace_f_bare, @function
	.balign	64
trace_f_bare:
	call	1f
	lea	1(%rdi), %rax
	ret
	.size	trace_f_bare, . - trace_f_bare
	.balign	64
1:	jmp	*trace_bare_stub@GOTPCREL(%rip)

	.hidden	trace_f_plain
	STEP	trace_f_plain
	TRACE_LOOP trace_loop_plain, trace_f_plain
	TRACE_LOOP trace_loop_clock, trace_f_clock
	TRACE_LOOP trace_loop_bare, trace_f_bare
	.irp	kind, patchable, fentry, instrument
	TRACE_LOOP trace_loop_f_\kind, trace_f_\kind
	TRACE_LOOP trace_loop_fresh_\kind, trace_fresh_\kind
	.endr
#ifdef TRACE_HAVE_XRAY
	TRACE_LOOP trace_loop_f_xray, trace_f_xray
	TRACE_LOOP trace_loop_fresh_xray, trace_fresh_xray
#endif
	.section .note.GNU-stack, "", @progbits
