/* SPDX-License-Identifier: MIT */
/*
 * Loops of static branches, and of calls that may be NULL. In assembly, with the records that the
 * macros of <shunt/static_key.h> make, so that each loop has as many instructions, of the same
 * lengths, whatever the branches do: those that jump go over a one-byte nop.
 */
#include "loop.inc"

#define MAGIC_TEST 0xd1f5a7c4

	.hidden	bench_random, bench_targets, bench_return

	/* For key @key; @flag 1: jumps while it is off, and so at first. */
	.macro	BRANCH key, flag
.Lsite\@:
	.if	\flag
	.byte	0xe9
	.else
	.byte	0xa9
	.endif
	.long	.Ljumped\@ - . - 4
	nop
.Ljumped\@:
	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.long	.Lsite\@ - ., .Ljumped\@ - ., _SKF__\key + \flag - ., MAGIC_TEST
	.popsection
	.endm

	/* One branch a turn. */
	.macro	ONE key
	BRANCH	\key, 0
	lea	1(%rdi), %rax
	.endm

	/* Two, of which one jumps: a turn takes as long with the key on as with it off. */
	.macro	BOTH key
	BRANCH	\key, 0
	BRANCH	\key, 1
	lea	1(%rdi), %rax
	.endm

	/* The multiplications, by one, take longer than the branches, which thus cost nothing. */
	.macro	BOTH_WORK key
	BOTH	\key
	.rept	4
	imul	$1, %rax, %rax
	.endr
	.endm

	LOOP	bench_loop_branch, bench_random, bench_targets, ONE bench_switch
	LOOP	bench_loop_branches, bench_random, bench_targets, BOTH bench_switch_both
	LOOP	bench_loop_branches_work, bench_random, bench_targets, BOTH_WORK bench_switch_work

/* Branches that no thread comes to, on a page of their own. */
	.balign	4096
	LOOP	bench_loop_elsewhere, bench_random, bench_targets, BOTH bench_switch_elsewhere
	.balign	4096

/* -------------------------------------------------- what a call of NULL is */

	.macro	TAKE call:vararg
	\call
	lea	1(%rdi), %rax
	.endm

	.macro	NOP5
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	.endm

	LOOP	bench_loop_null, bench_random, bench_targets, TAKE call __SCT__bench_null
	LOOP	bench_loop_nop, bench_random, bench_targets, TAKE NOP5
	LOOP	bench_loop_call, bench_random, bench_targets, TAKE call bench_return

/* void bench_return(uint64_t): changes nothing. */
	.globl	bench_return
	.type	bench_return, @function
	.balign	64
bench_return:
	ret
	.size	bench_return, . - bench_return

	.section .note.GNU-stack, "", @progbits
