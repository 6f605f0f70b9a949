/* SPDX-License-Identifier: MIT */
/*
 * What entries call that are traced for the recorder alone: its hook, with no guard and no record
 * (core/ftrace_raw.h). One stub for each form of entry. What they call, shunt_raw_entry and
 * shunt_raw_return, changes no more general registers than these save; where the entry is an
 * ordinary call, none need be.
 */
#include "arch/x86_64/stub.inc"

#define SAVED 40 /* bytes, by save_sparingly */
#define CALL  5

	/* The others that C may change. */
	.macro	save_more
	.irp	reg, r8, r9, r10, r11
	pushq	%\reg
	.cfi_adjust_cfa_offset 8
	.endr
	.endm

	.macro	restore_more
	.irp	reg, r11, r10, r9, r8
	popq	%\reg
	.cfi_adjust_cfa_offset -8
	.endr
	.endm

	/* The hook of entries; rdx: how. */
	.macro	call_entry
	movq	SAVED(%rsp), %rdi
	subq	$CALL, %rdi
	leaq	SAVED+8(%rsp), %rsi
	call	*shunt_raw_entry(%rip)
	.endm

	.macro	call_return
	xorl	%edi, %edi
	leaq	SAVED+8(%rsp), %rsi
	call	*shunt_raw_return(%rip)
	.endm

	.text
	/*
	 * A function whose return is told by a return stub: the slot of its return address, at the
	 * first place where it can be (return_slots.c has the hash), else by C. Not on a thread with
	 * a shadow stack, which C sees to.
	 */
	stub_begin shunt_raw_stub_head, 64
	save_sparingly
	movq	SAVED+8(%rsp), %rax
	movabsq	$0x9e3779b97f4a7c15, %rcx
	imulq	%rax, %rcx
	shrq	$48, %rcx
	leaq	shunt_return_slots(%rip), %rdx
	cmpq	(%rdx,%rcx,8), %rax
	jne	2f
	xorl	%edx, %edx
	rdsspq	%rdx
	testq	%rdx, %rdx
	jnz	2f
	shlq	$4, %rcx
	leaq	shunt_return_stubs(%rip), %rax
	addq	%rax, %rcx
	movq	%rcx, SAVED+8(%rsp)
1:	call_entry
	restore_sparingly
	ret
	.cfi_adjust_cfa_offset SAVED
2:	leaq	SAVED+8(%rsp), %rdi
	save_more
	cld
	call	shunt_raw_replace
	movl	%eax, %edx
	restore_more
	jmp	1b
	stub_end shunt_raw_stub_head

	/* One whose return is told by itself, or by nobody. */
	stub_begin shunt_raw_stub_entry, 64
	save_sparingly
	movl	shunt_raw_how(%rip), %edx
	call_entry
	restore_sparingly
	ret
	stub_end shunt_raw_stub_entry

	/* In the place of a ret, or before one. */
	stub_begin shunt_raw_stub_return, 64
	save_sparingly
	call_return
	restore_sparingly
	ret
	stub_end shunt_raw_stub_return

	/* Before the jmp of a tail call: flags are live. (lahf: all but OF; that by seto.) */
	stub_begin shunt_raw_stub_tail, 64
	pushq	%rax
	.cfi_adjust_cfa_offset 8
	lahf
	seto	%al
	.irp	reg, rcx, rdx, rsi, rdi, rax
	pushq	%\reg
	.cfi_adjust_cfa_offset 8
	.endr
	xorl	%edi, %edi
	leaq	SAVED+16(%rsp), %rsi
	call	*shunt_raw_return(%rip)
	.irp	reg, rax, rdi, rsi, rdx, rcx
	popq	%\reg
	.cfi_adjust_cfa_offset -8
	.endr
	addb	$0x7f, %al
	sahf
	popq	%rax
	.cfi_adjust_cfa_offset -8
	ret
	stub_end shunt_raw_stub_tail

	/*
	 * An ordinary call, of a function with two arguments, at the beginning and at the end. rdi:
	 * the function.
	 */
	stub_begin shunt_raw_stub_call, 64
	leaq	8(%rsp), %rsi
	movl	shunt_raw_how(%rip), %edx
	jmp	*shunt_raw_entry(%rip)
	stub_end shunt_raw_stub_call

	stub_begin shunt_raw_stub_call_return, 64
	leaq	8(%rsp), %rsi
	jmp	*shunt_raw_return(%rip)
	stub_end shunt_raw_stub_call_return

	/* Jumped to at the function's end: the hook returns to its caller. */
	stub_begin shunt_raw_stub_jump_return, 64
	movq	%rsp, %rsi
	jmp	*shunt_raw_return(%rip)
	stub_end shunt_raw_stub_jump_return

	/* Hooks that are C functions, in the place of sparing ones. */
	stub_begin shunt_raw_saving_entry, 64
	go_on_in_c *shunt_raw_hook_entry(%rip)
	stub_end shunt_raw_saving_entry

	stub_begin shunt_raw_saving_return, 64
	go_on_in_c *shunt_raw_hook_return(%rip)
	stub_end shunt_raw_saving_return

	/* By form (linux/entry/raw.c). */
	.section .data.rel.ro.shunt_raw_stubs, "aw", @progbits
	.balign	8
	.globl	shunt_raw_stubs
	.hidden	shunt_raw_stubs
	.type	shunt_raw_stubs, @object
shunt_raw_stubs:
	.irp	form, entry, call, return, tail, call_return, jump_return
	.quad	shunt_raw_stub_\form
	.endr
	.size	shunt_raw_stubs, . - shunt_raw_stubs

	.section .note.GNU-stack, "", @progbits
