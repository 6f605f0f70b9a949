/* SPDX-License-Identifier: MIT */
/*
 * 100,000 static branches of one key, NOP_STRIDE bytes apart, and a few of others, as
 * <shunt/static_key.h> makes them. Nothing executes them. The text of the 100,000 is from
 * bench_branches_start to bench_branches_end.
 */
	.macro	BRANCHES key, n
	.rept	\n
771:	.byte	0xa9
	.long	772f - . - 4
	.skip	NOP_STRIDE - 5, 0x90
772:
	.pushsection .static_jumps, "a", @progbits
	.long	771b - ., 772b - ., _SKF__\key - ., 0xd1f5a7c4
	.popsection
	.endr
	.endm

	.text
	.balign	64
	BRANCHES branches_1, 1
	BRANCHES branches_10, 10
	BRANCHES branches_1000, 1000
	.globl	bench_branches_start, bench_branches_end
	.hidden	bench_branches_start, bench_branches_end
bench_branches_start:
	BRANCHES branches_100000, 100000
bench_branches_end:
	int3

	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.popsection
	.section .note.GNU-stack, "", @progbits
