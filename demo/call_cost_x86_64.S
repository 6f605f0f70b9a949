/* SPDX-License-Identifier: MIT */
/*
 * The callee and the retpoline of call_cost.c. In assembly so that no compiler, not
 * even with link-time optimisation, sees through the calls that are being measured.
 *
 * There is no .note.gnu.property on purpose: a retpoline returns to where no call
 * came from, so this program must not claim to work with a shadow stack.
 */
	.text

/* call_cost_callee(x): rdi = x; returns rax = x + 1. Changes nothing else. */
	.globl	call_cost_callee
	.hidden	call_cost_callee
	.type	call_cost_callee, @function
	.balign	64
call_cost_callee:
	lea	1(%rdi), %rax
	ret
	.size	call_cost_callee, . - call_cost_callee

/*
 * call_cost_retpoline(x): continues at *call_cost_target with all arguments in
 * place. Changes r11. The processor predicts that the ret goes back to the loop
 * behind the inner call, and waits there until it learns better.
 */
	.globl	call_cost_retpoline
	.hidden	call_cost_retpoline
	.type	call_cost_retpoline, @function
	.balign	64
call_cost_retpoline:
	mov	call_cost_target(%rip), %r11
	call	2f
1:	pause
	lfence
	jmp	1b
	.balign	16
2:	mov	%r11, (%rsp)
	ret
	.size	call_cost_retpoline, . - call_cost_retpoline

	.section .note.GNU-stack, "", @progbits
