/* SPDX-License-Identifier: MIT */
/*
 * What a traced function's entry calls (ftrace.h): one stub for each slot, and one for
 * the list. To the function it is as if nothing had been called: every register that C
 * may change is saved, as struct ftrace_regs has them. (The flags mean nothing at the
 * entry of a C function.)
 *
 * From its first instruction to its last a stub lies between ftrace_stubs and
 * ftrace_stubs_end, and %gs:CPU_IN_STUB is not 0 while it has called something: by the
 * two, shunt_port_trace_wait() in ftrace.c sees whether a CPU is still in one.
 */
#include "ftrace.h"

	.text

	.balign	FTRACE_STUB_SIZE
	.globl	ftrace_stubs
ftrace_stubs:
	.set	slot, 0
	.rept	FTRACE_SLOTS + 1
	.balign	FTRACE_STUB_SIZE
	incq	%gs:CPU_IN_STUB
	pushq	%rbp
	pushq	%rax
	movl	$slot, %eax
	jmp	call_slot
	.set	slot, slot + 1
	.endr

call_slot:
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	pushq	$FTRACE_FORM_HEAD
	movq	%rsp, %rdi
	movl	%eax, %esi
	subq	$8, %rsp		/* aligned, as it is behind the entry's call */
	call	ftrace_run
	addq	$16, %rsp
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	popq	%rbp
	decq	%gs:CPU_IN_STUB
	ret
	.globl	ftrace_stubs_end
ftrace_stubs_end:

	.section .note.GNU-stack, "", @progbits
