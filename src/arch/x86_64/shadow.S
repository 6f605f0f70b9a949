/* SPDX-License-Identifier: MIT */
/*
 * For threads with a user shadow stack (CET): there a call, or a return, cannot be emulated,
 * because the CPU alone writes the shadow stack. The trap handler lets the thread go on here,
 * at a real one.
 *
 * A stub is a real call for one return address and one target, in its slot; what is called
 * returns to the stub, which goes on to that address. rsp is what it was at the site, so
 * arguments on the stack are where they should be, and no register changes. notrack:
 * neither of the two places need begin with endbr64.
 */
#define STUBS 64 /* SHUNT_SHADOW_STUBS in sigtrap.c */

	.text

	/* Whether this thread has one, in rax. rdsspq is a nop where there is none. */
	.balign	16
	.globl	shunt_has_shadow_stack
	.hidden	shunt_has_shadow_stack
	.type	shunt_has_shadow_stack, @function
shunt_has_shadow_stack:
	.cfi_startproc
	xorl	%edx, %edx
	rdsspq	%rdx
	xorl	%eax, %eax
	testq	%rdx, %rdx
	setne	%al
	ret
	.cfi_endproc
	.size	shunt_has_shadow_stack, . - shunt_has_shadow_stack

	/* The return of a site: to where rsp points. */
	.balign	16
	.globl	shunt_shadow_ret
	.hidden	shunt_shadow_ret
	.type	shunt_shadow_ret, @function
shunt_shadow_ret:
	.cfi_startproc
	ret
	.cfi_endproc
	.size	shunt_shadow_ret, . - shunt_shadow_ret

	/*
	 * To an unwinder a stub is a function without a frame, whose return address is what
	 * its slot says: CFA = rsp; and rip is saved where the distance at offset 14 of the
	 * stub leads: DW_CFA_expression, of rip: DW_OP_breg16 0, const1s -32, and, plus_uconst
	 * 14, dup, deref_size 4, plus.
	 */
	.balign	32
	.globl	shunt_shadow_stubs
	.hidden	shunt_shadow_stubs
	.type	shunt_shadow_stubs, @function
shunt_shadow_stubs:
	.cfi_startproc
	.cfi_def_cfa rsp, 0
	.cfi_escape 0x10, 16, 11, 0x80, 0, 0x09, 0xe0, 0x1a, 0x23, 14, 0x12, 0x94, 4, 0x22
	.set	stub, 0
	.rept	STUBS
	.balign	32
	notrack call *shunt_shadow_slots + 16 * stub + 8(%rip)
	notrack jmp *shunt_shadow_slots + 16 * stub(%rip)
	.long	shunt_shadow_slots + 16 * stub - .
	.set	stub, stub + 1
	.endr
	.balign	32
	.cfi_endproc
	.size	shunt_shadow_stubs, . - shunt_shadow_stubs

	/* struct slot of sigtrap.c: next, target. */
	.bss
	.balign	64
	.globl	shunt_shadow_slots
	.hidden	shunt_shadow_slots
	.type	shunt_shadow_slots, @object
	.size	shunt_shadow_slots, 16 * STUBS
shunt_shadow_slots:
	.zero	16 * STUBS

	.section .note.GNU-stack, "", @progbits
