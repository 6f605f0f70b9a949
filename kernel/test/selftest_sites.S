/* SPDX-License-Identifier: MIT */
/*
 * The sites and targets of the self-test (selftest.c). Nothing here but the sites' own
 * instructions, and what they lead to, changes a register or a flag.
 */
#include "selftest.h"

	.text

	.macro	routine name
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	.endm

/*
 * void selftest_go(const void *site, struct selftest_state *state): call @site with the flags of
 * the state and a pattern in every register, 0x2200 and on, but for r14, which is the state,
 * and rsp; and store what they are behind it.
 */
	routine	selftest_go
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushfq				/* aligned: at a call site, too, 16 bytes further */
	movq	%rsi, %r14
	movq	%rdi, STATE_SITE(%r14)
	leaq	-8(%rsp), %rax
	movq	%rax, STATE_STACK(%r14)
	movl	$0x2200, %eax
	movl	$0x2201, %ecx
	movl	$0x2202, %edx
	movl	$0x2203, %ebx
	movl	$0x2204, %ebp
	movl	$0x2205, %esi
	movl	$0x2206, %edi
	movl	$0x2207, %r8d
	movl	$0x2208, %r9d
	movl	$0x2209, %r10d
	movl	$0x220a, %r11d
	movl	$0x220b, %r12d
	movl	$0x220c, %r13d
	movl	$0x220d, %r15d
	pushq	STATE_FLAGS(%r14)
	popfq
	call	*STATE_SITE(%r14)
	.globl	selftest_go_ret
selftest_go_ret:
	pushfq
	popq	STATE_BEHIND(%r14)
	movq	%rax, STATE_REGS + 0x00(%r14)
	movq	%rcx, STATE_REGS + 0x08(%r14)
	movq	%rdx, STATE_REGS + 0x10(%r14)
	movq	%rbx, STATE_REGS + 0x18(%r14)
	movq	%rbp, STATE_REGS + 0x20(%r14)
	movq	%rsi, STATE_REGS + 0x28(%r14)
	movq	%rdi, STATE_REGS + 0x30(%r14)
	movq	%r8, STATE_REGS + 0x38(%r14)
	movq	%r9, STATE_REGS + 0x40(%r14)
	movq	%r10, STATE_REGS + 0x48(%r14)
	movq	%r11, STATE_REGS + 0x50(%r14)
	movq	%r12, STATE_REGS + 0x58(%r14)
	movq	%r13, STATE_REGS + 0x60(%r14)
	movq	%r15, STATE_REGS + 0x68(%r14)
	popfq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	.macro	call_site name, insn:vararg
	routine	\name
	leaq	-8(%rsp), %rsp		/* aligned at the call: there the gap is needed most */
	\insn
	.globl	\name\()_ret
\name\()_ret:
	leaq	8(%rsp), %rsp
	ret
	.endm

	.macro	tail_site name, insn:vararg
	routine	\name
	\insn
	.endm

	call_site selftest_call, call __SCT__selftest_key
	call_site selftest_got_call, call *__SCT__selftest_key@GOTPCREL(%rip)
	call_site selftest_ret0_call, call __SCT__selftest_ret0
	call_site selftest_null_call, call __SCT__selftest_null
	tail_site selftest_tail, jmp __SCT__selftest_key
	tail_site selftest_got_tail, jmp *__SCT__selftest_key@GOTPCREL(%rip)
	tail_site selftest_ret0_tail, jmp __SCT__selftest_ret0
	tail_site selftest_null_tail, jmp __SCT__selftest_null

/*
 * What the linker leaves where it does not relax: ff 15 and ff 25, through a slot. The slot is a
 * word of its own, so that `shunt bake` leaves the sites as they are (selftest_linked.c).
 */
	call_site selftest_slot_call, call *selftest_slot(%rip)
	tail_site selftest_slot_tail, jmp *selftest_slot(%rip)
	.globl	selftest_slot_call_insn
	.set	selftest_slot_call_insn, selftest_slot_call_ret - 6

	.pushsection .data
	.balign	8
	.globl	selftest_slot
selftest_slot:
	.quad	__SCT__selftest_key
	.popsection

/*
 * Static branches of selftest_switch: a nop or a jmp at first, of 5 bytes or 2. They are records
 * as static_branch_unlikely() and static_branch_likely() make them: struct static_jump_entry.
 */
#define STATIC_JUMP_MAGIC 0xd1f5a7c3
	.macro	branch_site name, straight, jumped, jumps_while_off, first
	routine	\name
	first_\first \name\()_jumped
	jmp	\straight
\name\()_jumped:
	jmp	\jumped
	.pushsection .static_jumps, "a", @progbits
	.balign	4
	.long	\name - ., \name\()_jumped - ., _SKF__selftest_switch + \jumps_while_off - .
	.long	STATIC_JUMP_MAGIC
	.popsection
	.endm

	.macro	first_nop to
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	.endm
	.macro	first_jmp to
	.byte	0xe9
	.long	\to - (. + 4)
	.endm
	.macro	first_short_jmp to
	.byte	0xeb, \to - (. + 1)
	.endm

	branch_site selftest_branch, selftest_one, selftest_two, 0, nop
	branch_site selftest_branch_jmp, selftest_two, selftest_one, 1, jmp
	branch_site selftest_branch_short, selftest_two, selftest_one, 1, short_jmp

/* A place that traps as selftest_call does, for a trap that comes late. */
	routine	selftest_late
	leaq	-8(%rsp), %rsp
	int3
	.globl	selftest_late_int3
selftest_late_int3:
	ud2

/* The instruction of selftest_call. */
	.globl	selftest_call_insn
	.set	selftest_call_insn, selftest_call_ret - 5

/* A conditional tail call, and what the CPU itself says of the condition: 16 of each. */
	.macro	jcc_site cc
	.balign	16
	j\cc	__SCT__selftest_key
	ret
	.endm

	.macro	condition cc
	.balign	16
	pushq	%rdi
	popfq
	set\cc	%al
	movzbl	%al, %eax
	pushq	%rsi
	popfq
	ret
	.endm

	.balign	16
	.globl	selftest_jcc
selftest_jcc:
	.irp	cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
	jcc_site \cc
	.endr

/* uint64_t f(uint64_t flags, uint64_t flags behind it) */
	.balign	16
	.globl	selftest_condition
selftest_condition:
	.irp	cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
	condition \cc
	.endr

/* A target leaves its number and what it finds, and changes nothing. */
	.macro	target name, number
	routine	\name
	movq	$\number, STATE_TARGET(%r14)
	pushfq
	popq	STATE_SEEN(%r14)
	pushq	(%rsp)
	popq	STATE_RET(%r14)
	movq	%rsp, STATE_SP(%r14)
	ret
	.endm

	target selftest_one, 1
	target selftest_two, 2
	target selftest_set_two, 2	/* to C it returns nothing */

	.section .note.GNU-stack, "", @progbits
