/* SPDX-License-Identifier: MIT */
/*
 * 10,000 functions that can be traced, as -fpatchable-function-entry makes them: trace_many_0 and
 * so on, of which ten have the names trace_few_0 to trace_few_9 too; and as many such places
 * that are no function's.
 */
#define MANY   10000
#define STRIDE 16

	.altmacro
	.macro	one number, other
	.globl	trace_many_\number
	.type	trace_many_\number, @function
trace_many_\number:
	.if	\other < 10
	.globl	trace_few_\other
	.type	trace_few_\other, @function
trace_few_\other:
	.endif
0:	.byte	0x0f, 0x1f, 0x44, 0, 8
	ret
	.size	trace_many_\number, . - trace_many_\number
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
	one	%number, %number
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
