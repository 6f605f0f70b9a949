/* SPDX-License-Identifier: MIT */
/*
 * The loops whose calls are measured, and what they call. In assembly so that no
 * compiler, not even with link-time optimisation, sees through the calls.
 *
 * There is no .note.gnu.property on purpose: a retpoline returns to where no call
 * came from, so this program must not claim to work with a shadow stack.
 */
#include "loop.inc"

	.hidden	bench_step, bench_pointer, bench_targets, bench_random, bench_ifunc
	.hidden bench_trampoline_alias, bench_loop_direct, bench_loop_inline, bench_loop_work
	.irp	n, 1, 2, 3, 4, 5, 6, 7
	.hidden	bench_step\n
	STEP	bench_step\n
	.endr
	STEP	bench_step

	LOOP	bench_loop_direct, bench_random, bench_targets, call bench_step
	LOOP	bench_loop_inline, bench_random, bench_targets, call __SCT__bench_inline
	/* The multiplications, by one, take longer than the call, which thus costs nothing. */
	.macro	CALL_WORK
	call	__SCT__bench_work
	.rept	4
	imul	$1, %rax, %rax
	.endr
	.endm
	LOOP	bench_loop_work, bench_random, bench_targets, CALL_WORK
	LOOP	bench_loop_far, bench_random, bench_targets, call __SCT__bench_far
	/* By another name it is not a site, and stays as it is. */
	LOOP	bench_loop_trampoline, bench_random, bench_targets, call bench_trampoline_alias
	LOOP	bench_loop_pointer, bench_random, bench_targets, call *bench_pointer(%rip)
	LOOP	bench_loop_ifunc, bench_random, bench_targets, call bench_ifunc
	LOOP	bench_loop_retpoline, bench_random, bench_targets, call bench_retpoline

	/* Which target is next comes from random bytes; the load is off the chain. */
	.macro	CALL_RANDOM
	movzwl	%bx, %ecx
	movzbl	(%r12, %rcx), %ecx
	call	*(%r13, %rcx, 8)
	.endm
	LOOP	bench_loop_random2, bench_random, bench_targets2, CALL_RANDOM
	LOOP	bench_loop_random8, bench_random, bench_targets, CALL_RANDOM

/*
 * bench_retpoline(x): continues at *bench_pointer with all arguments in place. Changes
 * r11. The processor predicts that the ret goes back to the loop behind the inner
 * call, and waits there until it learns better.
 */
	.globl	bench_retpoline
	.type	bench_retpoline, @function
	.balign	64
bench_retpoline:
	mov	bench_pointer(%rip), %r11
	call	2f
1:	pause
	lfence
	jmp	1b
	.balign	16
2:	mov	%r11, (%rsp)
	ret
	.size	bench_retpoline, . - bench_retpoline

/* void bench_iret(void): what a core sync of one thread takes, bare. */
	.balign	64
	.globl	bench_iret
	.hidden	bench_iret
	.type	bench_iret, @function
bench_iret:
	movq	%rsp, %rax
	movl	%ss, %ecx
	pushq	%rcx
	pushq	%rax
	pushfq
	movl	%cs, %ecx
	pushq	%rcx
	leaq	0f(%rip), %rcx
	pushq	%rcx
	iretq
0:	ret

/*
 * Five bytes of text that nothing executes, on a page of their own: the bare writes of
 * updates.c go here. And a site for text_poke_bp() behind it, likewise.
 */
	.balign	4096
	.globl	bench_floor_text, bench_poke_text
	.hidden	bench_floor_text, bench_poke_text
bench_floor_text:
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	.balign	64
bench_poke_text:
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00

/* On a page that no update changes: what the file has there. */
	.balign	4096
	.hidden	bench_step_loaded
	STEP	bench_step_loaded
	.balign	512
	LOOP	bench_loop_loaded, bench_random, bench_targets, call bench_step_loaded

/* A static call on a page that no thread comes to: what its updates cost others is not the page's. */
	.balign	4096
	LOOP	bench_loop_elsewhere_call, bench_random, bench_targets, call __SCT__bench_elsewhere
	.balign	4096

	.section .note.GNU-stack, "", @progbits
