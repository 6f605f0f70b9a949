/* SPDX-License-Identifier: MIT */
/*
 * What a traced function's entry calls: one stub for each slot, which calls the func of the one ops
 * that is in it, and one for all others, for each form of entry. To the function it is as if
 * nothing had been called. (The flags mean nothing at the entry of a function; before a tail
 * call they do.) The first half of the slots, and one of each two list stubs, are for ops that
 * change no vector register.
 *
 * A word below the frame of the guard, while a callback runs, is an address between
 * shunt_ftrace_stubs and shunt_ftrace_stubs_end (context.c).
 */
#include "arch/x86_64/ftrace_save.inc"
#include "arch/x86_64/stub.inc"

/* Bytes from the stub of a slot to the next one's. */
#define GENERAL_SIZE 256
#define SHORT_SIZE   32

/* In whole ones: where the stub begins, and where the func returns to. */
#define GENERAL_BEGIN    22
#define GENERAL_RETURNED 128

	.text
	.balign	64
	.globl	shunt_ftrace_stubs
	.hidden	shunt_ftrace_stubs
shunt_ftrace_stubs:

	/* rax: the slot, or 0 or 1 for the lists. The general case, in shunt_cursor's hands. */
	.macro	call_each
	subq	$FTRACE_CURSOR_SIZE, %rsp
	movq	%rsp, %rdi
	leaq	-FTRACE_REGS_SIZE(%rbp), %rsi
	movq	%rax, %rdx
	call	shunt_ftrace_begin
	jmp	.Lnext\@
.Lcall\@:
	movq	FTRACE_CURSOR_IP(%rsp), %rdi
	movq	FTRACE_CURSOR_PARENT(%rsp), %rsi
	movq	FTRACE_CURSOR_REGS(%rsp), %rcx
	movq	%rax, %rdx
	call	*(%rax)
	movq	%rsp, %rdi
	call	shunt_ftrace_next
.Lnext\@:
	testq	%rax, %rax
	jnz	.Lcall\@
	addq	$FTRACE_CURSOR_SIZE, %rsp
	.endm

	/* As behind frame_begin. */
	.macro	in_frame
	.cfi_def_cfa %rbp, 16
	.cfi_offset %rbp, -16
	.endm

	/*
	 * The first word of a slot is the ops; 0: none any more, by a thread that was on its way when
	 * they were taken away; 1: other ops, which may not want this entry.
	 *
	 * Arguments for the func of the ops in rdx. To \by_stub, with rcx, where the function returns
	 * to a return stub: it is the end of a tail call, and the caller is the stub's.
	 */
	.macro	set_arguments by_stub, parent=16(%rbp)
	movq	8(%rbp), %rdi
	subq	$FTRACE_INSN_SIZE, %rdi
	.ifnc	\parent, %rsi
	movq	\parent, %rsi
	.endif
	movq	%rsi, %rcx
	subq	shunt_return_range(%rip), %rcx
	cmpq	$FTRACE_RETURN_STUBS, %rcx
	jb	\by_stub
	.endm

	.macro	set_parent_by_stub
	shrq	$FTRACE_RETURN_STUB_BITS, %rcx
	movq	shunt_return_range+8(%rip), %rsi
	movq	(%rsi,%rcx,8), %rsi
	.endm

	/* Behind guard_enter: no func is called. */
	.macro	guard_take_back
	movq	$0, (%r8)
	incq	8(%r8)
	.endm

	.macro	call_func
	leaq	-FTRACE_REGS_SIZE(%rbp), %rcx
	call	*(%rdx)
	.endm

	/*
	 * The stubs of the first half, each whole, and what is behind the call of the func in one
	 * cache line: the time is that of the branches and lines that are fetched one after the other,
	 * while the other instructions are executed beside (bench/README.md). A jump more or
	 * another line is a cycle.
	 */
	.balign	64
	.local	shunt_stubs_general
	.type	shunt_stubs_general, @function
shunt_stubs_general:
	.set	slot, 0
	.rept	FTRACE_SLOTS / 2
	.org	shunt_stubs_general + GENERAL_SIZE * slot + GENERAL_BEGIN, 0xcc
	.cfi_startproc
	frame_begin
	save_registers FTRACE_FORM_HEAD
	guard_enter %r8, 1f
	movq	shunt_ftrace_slots + FTRACE_SLOT_SIZE * slot(%rip), %rdx
	cmpq	$1, %rdx
	jbe	2f
	set_arguments shunt_slot_by_stub
	call_func
	.org	shunt_stubs_general + GENERAL_SIZE * slot + GENERAL_RETURNED, 0x90
	guard_leave %rcx
	restore_registers
1:	leaq	shunt_ftrace_slots + FTRACE_SLOT_SIZE * slot(%rip), %rax
	jmp	shunt_slot_asks
2:	leaq	shunt_ftrace_slots + FTRACE_SLOT_SIZE * slot(%rip), %rax
	jmp	shunt_slot_no_func
	.cfi_endproc
	.set	slot, slot + 1
	.endr
	.org	shunt_stubs_general + GENERAL_SIZE * slot, 0xcc
	.size	shunt_stubs_general, . - shunt_stubs_general

	/* How they go on; rax: the slot. */
	stub_begin shunt_slot_asks, 32
	in_frame
	call_each
2:	restore_registers
	.globl	shunt_slot_no_func
	.hidden	shunt_slot_no_func
shunt_slot_no_func:
	guard_take_back
	cmpq	$1, %rdx
	je	shunt_slot_asks
	jmp	2b
	.globl	shunt_slot_by_stub
	.hidden	shunt_slot_by_stub
shunt_slot_by_stub:
	set_parent_by_stub
	call_func
	guard_leave %rcx
	jmp	2b
	stub_end shunt_slot_asks

	/* Stubs of slots from \first on that go on where they have all in common; rax: the slot. */
	.macro	short_stubs name, first, to
	.balign	64
	.local	\name
	.type	\name, @function
\name:
	.cfi_startproc
	.set	slot, \first
	.rept	FTRACE_SLOTS / 2
	.balign	SHORT_SIZE
	.cfi_remember_state
	frame_begin
	leaq	shunt_ftrace_slots + FTRACE_SLOT_SIZE * slot(%rip), %rax
	jmp	\to
	.cfi_restore_state
	.cfi_def_cfa_offset 8	/* clang 14 adjusts, in the next one, what was before the restore */
	.set	slot, slot + 1
	.endr
	.cfi_endproc
	.size	\name, . - \name
	.endm

	/* Of the second half. */
	short_stubs shunt_stubs_full, FTRACE_SLOTS / 2, shunt_call_slot_full

	stub_begin shunt_call_slot_full, 32
	in_frame
	save_registers FTRACE_FORM_HEAD
	movq	%rax, %r9
	save_vectors
	movq	%r9, %rax
	guard_enter %r8, 1f
	movq	(%rax), %rdx
	cmpq	$1, %rdx
	jbe	3f
	set_arguments 4f
5:	call_func
	guard_leave %rcx
2:	restore_vectors
	restore_registers
4:	set_parent_by_stub
	jmp	5b
3:	guard_take_back
	cmpq	$1, %rdx
	jne	2b
1:	call_each
	jmp	2b
	stub_end shunt_call_slot_full

	/* Of the first half, for what is an ordinary call: where it was made is in rsi. */
	short_stubs shunt_stubs_call, 0, shunt_call_slot_call

	stub_begin shunt_call_slot_call, 64
	in_frame
	save_registers FTRACE_FORM_CALL
	guard_enter %r8, shunt_slot_asks
	movq	(%rax), %rdx
	cmpq	$1, %rdx
	jbe	shunt_slot_no_func
	set_arguments shunt_slot_by_stub, %rsi
	call_func
	guard_leave %rcx
	restore_registers
	stub_end shunt_call_slot_call

	/* The lists, of one form. */
	.macro	list_stubs form, flags=0
	stub_begin shunt_list_stub_\form, 32
	frame_begin
	save_registers \form, \flags
	xorl	%eax, %eax
	call_each
	restore_registers \flags
	stub_end shunt_list_stub_\form

	stub_begin shunt_list_stub_full_\form, 32
	frame_begin
	save_registers \form, \flags
	save_vectors
	movl	$1, %eax
	call_each
	restore_vectors
	restore_registers \flags
	stub_end shunt_list_stub_full_\form
	.endm

	list_stubs FTRACE_FORM_HEAD
	list_stubs FTRACE_FORM_CALL
	list_stubs FTRACE_FORM_RETURN
	list_stubs FTRACE_FORM_TAIL, 1
	list_stubs FTRACE_FORM_CALL_RETURN

	/*
	 * A function's last jump, to a handler that gets the function's address (rdi) and returns to
	 * its caller: so does the stub. That has no return address of its own; in its place is
	 * what tells the entry (core/ftrace_entries.c). Nothing but rdi and rsi is in use.
	 */
	.macro	jump_stub form, full
	endbr64
	movabsq	$(1 << FTRACE_JUMP_BIT), %rax
	xorq	%rdi, %rax
	addq	$FTRACE_INSN_SIZE, %rax
	pushq	%rax
	.cfi_adjust_cfa_offset 8
	frame_begin
	save_registers \form
	.if	\full
	save_vectors
	.endif
	movl	$\full, %eax
	call_each
	.if	\full
	restore_vectors
	.endif
	restore_registers 0, 8
	.endm

	.macro	jump_stubs form
	stub_begin shunt_list_stub_\form, 32
	jump_stub \form, 0
	stub_end shunt_list_stub_\form

	stub_begin shunt_list_stub_full_\form, 32
	jump_stub \form, 1
	stub_end shunt_list_stub_full_\form
	.endm

	jump_stubs FTRACE_FORM_JUMP_RETURN

	.globl	shunt_ftrace_stubs_end
	.hidden	shunt_ftrace_stubs_end
shunt_ftrace_stubs_end:

	/* shunt_port_trace_stub(): the first and how far to the next (linux/entry/stubs.c). */
	.section .data.rel.ro.shunt_slot_stubs, "aw", @progbits
	.balign	8
	.globl	shunt_slot_stubs
	.hidden	shunt_slot_stubs
	.type	shunt_slot_stubs, @object
shunt_slot_stubs:
	.quad	shunt_stubs_general + GENERAL_BEGIN, GENERAL_SIZE
	.quad	shunt_stubs_full, SHORT_SIZE
	.quad	shunt_stubs_call, SHORT_SIZE
	.size	shunt_slot_stubs, . - shunt_slot_stubs

	/* shunt_port_trace_stub(): by form, the list's without and with vector registers. */
	.section .data.rel.ro.shunt_list_stubs, "aw", @progbits
	.balign	8
	.globl	shunt_list_stubs
	.hidden	shunt_list_stubs
	.type	shunt_list_stubs, @object
shunt_list_stubs:
	.irp	form, FTRACE_FORM_HEAD, FTRACE_FORM_CALL, FTRACE_FORM_RETURN, FTRACE_FORM_TAIL, FTRACE_FORM_CALL_RETURN, FTRACE_FORM_JUMP_RETURN
	.quad	shunt_list_stub_\form, shunt_list_stub_full_\form
	.endr
	.size	shunt_list_stubs, . - shunt_list_stubs

	.section .note.GNU-stack, "", @progbits
