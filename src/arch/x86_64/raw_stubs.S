/* SPDX-License-Identifier: MIT */
/*
 * What entries call that are traced for the recorder alone: its hook, with no guard and no record
 * (core/ftrace_raw.h). One stub for each form of entry. What they call, shunt_raw_entry and
 * shunt_raw_return, changes no more general registers than these save; where the entry is an
 * ordinary call, none need be.
 */
#define SAVED 40 /* bytes */
#define CALL  5

	.macro	save
	.irp	reg, rax, rcx, rdx, rsi, rdi
	pushq	%\reg
	.cfi_adjust_cfa_offset 8
	.endr
	.endm

	.macro	restore
	.irp	reg, rdi, rsi, rdx, rcx, rax
	popq	%\reg
	.cfi_adjust_cfa_offset -8
	.endr
	.endm

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

	.macro	begin name
	.balign	64
	.globl	\name
	.hidden	\name
	.type	\name, @function
\name:
	.cfi_startproc
	.endm

	.macro	end name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	.text
	/*
	 * A function whose return is told by a return stub: the slot of its return address, at the
	 * first place where it can be (return_slots.c has the hash), else by C. Not on a thread with
	 * a shadow stack, which C sees to.
	 */
	begin	shunt_raw_stub_head
	save
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
	restore
	ret
	.cfi_adjust_cfa_offset SAVED
2:	leaq	SAVED+8(%rsp), %rdi
	save_more
	cld
	call	shunt_raw_replace
	movl	%eax, %edx
	restore_more
	jmp	1b
	end	shunt_raw_stub_head

	/* One whose return is told by itself, or by nobody. */
	begin	shunt_raw_stub_entry
	save
	movl	shunt_raw_how(%rip), %edx
	call_entry
	restore
	ret
	end	shunt_raw_stub_entry

	/* In the place of a ret, or before one. */
	begin	shunt_raw_stub_return
	save
	call_return
	restore
	ret
	end	shunt_raw_stub_return

	/* Before the jmp of a tail call: flags are live. (lahf: all but OF; that by seto.) */
	begin	shunt_raw_stub_tail
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
	end	shunt_raw_stub_tail

	/*
	 * An ordinary call, of a function with two arguments, at the beginning and at the end. rdi:
	 * the function.
	 */
	begin	shunt_raw_stub_call
	leaq	8(%rsp), %rsi
	movl	shunt_raw_how(%rip), %edx
	jmp	*shunt_raw_entry(%rip)
	end	shunt_raw_stub_call

	begin	shunt_raw_stub_call_return
	leaq	8(%rsp), %rsi
	jmp	*shunt_raw_return(%rip)
	end	shunt_raw_stub_call_return

	/* Jumped to at the function's end: the hook returns to its caller. */
	begin	shunt_raw_stub_jump_return
	movq	%rsp, %rsi
	jmp	*shunt_raw_return(%rip)
	end	shunt_raw_stub_jump_return

	/* Hooks that are C functions, in the place of sparing ones. */
	.macro	call_hook pointer
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset %rbp, 0
	movq	%rsp, %rbp
	.cfi_def_cfa_register %rbp
	pushq	%r8
	pushq	%r9
	pushq	%r10
	pushq	%r11
	andq	$-16, %rsp
	cld
	call	*\pointer(%rip)
	leaq	-32(%rbp), %rsp
	popq	%r11
	popq	%r10
	popq	%r9
	popq	%r8
	popq	%rbp
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	ret
	.endm

	begin	shunt_raw_saving_entry
	call_hook shunt_raw_hook_entry
	end	shunt_raw_saving_entry

	begin	shunt_raw_saving_return
	call_hook shunt_raw_hook_return
	end	shunt_raw_saving_return

	.section .note.GNU-stack, "", @progbits
