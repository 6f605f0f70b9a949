/* SPDX-License-Identifier: MIT */
/*
 * The sites and targets of the laboratory, at chosen places of pages of their own.
 *
 * Sites come in some forms (enum lab_form) and four places (enum lab_place). The
 * displacement's bytes that differ between targets lie on both sides of the border. All
 * else is `ret`, so that a displacement mixed of two leads to one, and shows.
 */
#include "lab.h"

	.section .text.lab, "ax", @progbits
	/*
	 * What gap-missing leaves in the place of SS is 16 bits of a site's return address. They must
	 * be no null selector, by which the iret would go well: so they do not depend on the layout.
	 */
	.balign	65536
lab_base:

/* One table entry: struct lab_site. */
	.macro	entry insn, ret, code, trampoline
	.pushsection .data, "aw", @progbits
	.quad	\insn, \ret, \code, \trampoline, 0, 0
	.popsection
	.endm

	.pushsection .data, "aw", @progbits
	.balign	64
	.globl	lab_sites
lab_sites:
	.popsection

	/* A call, perhaps with a prefix. */
	.macro	site_call at, form, trampoline
	.org	\at, 0xc3
10:
	.if	\form
	.byte	0x2e
	.endif
	.byte	0xe8
	.long	lab_target_0 - (. + 4)
11:	ret
	entry	10b, 11b, 10b, \trampoline
	.endm

	/* A jmp, which sites call. */
	.macro	site_trampoline at
	.org	\at, 0xc3
10:	.byte	0xe9
	.long	lab_target_0 - (. + 4)
	.endm

	/* (Behind the form's own places.) */
	.macro	site_caller at, insn
	.org	\at, 0xc3
11:	call	\insn
12:	ret
	entry	\insn, 12b, 11b, 0
	.endm

	.macro	trampoline name, at
	.org	\at, 0xc3
\name:	.byte	0xe9
	.long	lab_target_0 - (. + 4)
	.endm

	/* LAB_CALL */
	site_call 0x0048, 0, lab_tramp_0
	site_call 0x013e, 0, lab_tramp_1
	site_call 0x0ffe, 0, lab_tramp_2
	site_call 0x1088, 0, lab_tramp_3
	trampoline lab_tramp_0, 0x1200
	trampoline lab_tramp_1, 0x1240
	trampoline lab_tramp_2, 0x1280
	trampoline lab_tramp_3, 0x12c0
	/* LAB_PREFIX */
	site_call 0x2048, 1, 0
	site_call 0x213d, 1, 0
	site_call 0x2ffd, 1, 0
	site_call 0x3088, 1, 0
	/* LAB_INDIRECT: the site calls a jmp through a word. */
	.macro	site_indirect at, slot
	.org	\at, 0xc3
10:	jmpq	*\slot(%rip)
	.org	\at + 8, 0xc3
11:	call	10b
12:	ret
	entry	10b, 12b, 11b, \slot
	.pushsection .data.lab, "aw", @progbits
	.balign	8
\slot:	.quad	lab_target_0
	.popsection
	.endm

	/* LAB_TRAMPOLINE */
	.org	0x4048, 0xc3
1:	site_trampoline 0x4048
	site_caller 0x4060, 1b
	.org	0x413e, 0xc3
2:	site_trampoline 0x413e
	site_caller 0x4160, 2b
	.org	0x4ffe, 0xc3
3:	site_trampoline 0x4ffe
	site_caller 0x5020, 3b
	.org	0x5088, 0xc3
4:	site_trampoline 0x5088
	site_caller 0x50a0, 4b
	site_indirect 0x5100, lab_slot_0
	site_indirect 0x5120, lab_slot_1
	site_indirect 0x5140, lab_slot_2
	site_indirect 0x5160, lab_slot_3

	/* LAB_SWITCH; across a border: its first byte | its second. */
	.macro	site_switch at
	.org	\at, 0xc3
	.byte	0xa9
	.long	lab_target_1 - (. + 4)
	jmp	lab_target_0
	.endm

	site_switch 0x5208
	site_caller 0x5220, lab_base + 0x5208
	site_switch 0x523f
	site_caller 0x5260, lab_base + 0x523f
	site_switch 0x5fff
	site_caller 0x6020, lab_base + 0x5fff
	site_switch 0x6048
	site_caller 0x6060, lab_base + 0x6048

/*
 * A target writes down, in the record at r14, its number and what it finds: registers,
 * flags, stack pointer and the word there. No instruction up to the last one that looks at
 * them changes a flag. Then it returns, if it can; else it is out by lab_lost().
 */
	.macro	target number, at
	.org	\at, 0xc3
	.globl	lab_target_\number
lab_target_\number:
	movq	$\number, RECORD_TARGET(%r14)
	jmp	record
	.endm

	target 0, 0x6110
	target 1, 0x6230
	target 2, 0x6350
	target 3, 0x6470
	.org	0x6800, 0xc3
record:
	movq	%rax, RECORD_REGS + 0x00(%r14)
	movq	%rcx, RECORD_REGS + 0x08(%r14)
	movq	%rdx, RECORD_REGS + 0x10(%r14)
	movq	%rbx, RECORD_REGS + 0x18(%r14)
	movq	%rbp, RECORD_REGS + 0x20(%r14)
	movq	%rsi, RECORD_REGS + 0x28(%r14)
	movq	%rdi, RECORD_REGS + 0x30(%r14)
	movq	%r8, RECORD_REGS + 0x38(%r14)
	movq	%r9, RECORD_REGS + 0x40(%r14)
	movq	%r10, RECORD_REGS + 0x48(%r14)
	movq	%r11, RECORD_REGS + 0x50(%r14)
	movq	%r12, RECORD_REGS + 0x58(%r14)
	movq	%r13, RECORD_REGS + 0x60(%r14)
	movq	%r15, RECORD_REGS + 0x68(%r14)
	movq	%gs:56, %rax		/* the software's idea of IF (context.c) */
	movq	%rax, RECORD_SOFT(%r14)
	movq	(%rsp), %rax
	movq	%rax, RECORD_RET(%r14)
	movq	%rsp, RECORD_SP(%r14)
	pushfq
	popq	RECORD_SEEN(%r14)
	movq	RECORD_SP(%r14), %rcx
	cmpq	%rcx, RECORD_WANT_SP(%r14)
	jne	lost
	cmpq	%rax, RECORD_WANT_RET(%r14)
	jne	lost
	ret
lost:
	cld
	andq	$-16, %rsp
	call	lab_lost
	ud2

	/*
	 * LAB_SWITCH_CALL; across a border: its first byte | its second. Behind the call or the test:
	 * if no target was reached, a call of target 0, with its own return address. No flag changes.
	 */
	.macro	site_switch_call at
	.org	\at, 0xc3
10:	.byte	0xa9
	.long	lab_target_1 - (. + 4)
11:	pushq	%rcx
	movq	RECORD_TARGET(%r14), %rcx
	leaq	1(%rcx), %rcx
	jrcxz	12f
	popq	%rcx
	ret
12:	popq	%rcx
	movq	$13f, RECORD_WANT_RET(%r14)
	call	lab_target_0
13:	ret
	entry	10b, 11b, 10b, 0
	.endm

	site_switch_call 0x6908
	site_switch_call 0x693f
	site_switch_call 0x6fff
	site_switch_call 0x7048
	.org	0x8000, 0xc3

/* Generated stubs. */
	.globl	lab_stubs
lab_stubs:
	.fill	4096, 1, 0xcc

	.section .note.GNU-stack, "", @progbits
