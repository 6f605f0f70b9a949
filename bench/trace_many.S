/* SPDX-License-Identifier: MIT */
/*
 * Functions that can be traced, as -fpatchable-function-entry makes them: trace_few_0 to
 * trace_few_9, and 10,000 more, trace_many_10 and so on; and as many such places that are no
 * function's.
 */
#define MANY   10010
#define STRIDE 16

	.altmacro
	.macro	named name
	.globl	\name
	.type	\name, @function
	.size	\name, 6
\name:
	.endm

	.macro	one number
	.if	\number < 10
	named	trace_few_\number
	.else
	named	trace_many_\number
	.endif
0:	.byte	0x0f, 0x1f, 0x44, 0, 8
	ret
	.balign	STRIDE
	.pushsection __patchable_function_entries, "aw", @progbits
	.quad	0b
	.popsection
	.endm

	.text
	.balign	4096
	.globl	trace_many
	.hidden	trace_many
trace_many:
	.set	number, 0
	.rept	MANY
	one	%number
	.set	number, number + 1
	.endr

	.balign	4096
	.globl	trace_places
	.hidden	trace_places
trace_places:
	.rept	MANY
	.byte	0x0f, 0x1f, 0x44, 0, 8
	ret
	.balign	STRIDE
	.endr

	.section .note.GNU-stack, "", @progbits
