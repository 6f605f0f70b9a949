/* SPDX-License-Identifier: MIT */
/*
 * Loads every register, executes a site of the key "regs", and stores every
 * register; and the sites, as a compiler would write them.
 *
 * One run at a time: all state is in regs_run (regs.h). The run has a stack of
 * its own, so that two runs have the same addresses on it.
 */
#include "regs.h"

	.bss
	.balign	64
	.globl	regs_run
	.type	regs_run, @object
regs_run:
	.zero	RUN_FLAG_STACK + 64
	.size	regs_run, . - regs_run

	.text

#define RUN(field) regs_run+(field)(%rip)

/*
 * Store everything at regs_run + \at and change nothing, neither registers nor
 * flags nor anything on the stack: mov and lea only, and a push elsewhere.
 */
	.macro	capture at
	movq	%rax, RUN(\at + CAP_GPR + 0)
	movq	%rbx, RUN(\at + CAP_GPR + 8)
	movq	%rcx, RUN(\at + CAP_GPR + 16)
	movq	%rdx, RUN(\at + CAP_GPR + 24)
	movq	%rsi, RUN(\at + CAP_GPR + 32)
	movq	%rdi, RUN(\at + CAP_GPR + 40)
	movq	%rbp, RUN(\at + CAP_GPR + 48)
	movq	%r8, RUN(\at + CAP_GPR + 56)
	movq	%r9, RUN(\at + CAP_GPR + 64)
	movq	%r10, RUN(\at + CAP_GPR + 72)
	movq	%r11, RUN(\at + CAP_GPR + 80)
	movq	%r12, RUN(\at + CAP_GPR + 88)
	movq	%r13, RUN(\at + CAP_GPR + 96)
	movq	%r14, RUN(\at + CAP_GPR + 104)
	movq	%r15, RUN(\at + CAP_GPR + 112)
	movq	%rsp, RUN(\at + CAP_SP)

	movq	RUN(RUN_SP), %rbx
	.set	word, 0
	.rept	STACK_WORDS
	movq	8 * (word - RED_ZONE_WORDS)(%rbx), %rax
	movq	%rax, RUN(\at + CAP_STACK + 8 * word)
	.set	word, word + 1
	.endr

	movq	%rsp, %rbx
	leaq	RUN(RUN_FLAG_STACK + 64), %rsp
	pushfq
	popq	%rax
	movq	%rbx, %rsp
	movq	%rax, RUN(\at + CAP_FLAGS)

	movq	RUN(\at + CAP_TIMES), %rax
	leaq	1(%rax), %rax
	movq	%rax, RUN(\at + CAP_TIMES)

	movl	RUN(RUN_MASK), %eax
	movl	RUN(RUN_MASK + 4), %edx
	xsave64	RUN(\at + CAP_XSAVE)

	movq	RUN(\at + CAP_GPR + 0), %rax
	movq	RUN(\at + CAP_GPR + 8), %rbx
	movq	RUN(\at + CAP_GPR + 24), %rdx
	.endm

/*
 * void regs_go(void): load all that regs_run says and go to its frag, which
 * returns to regs_end. A C function to its caller; keeps the control words too.
 */
	.globl	regs_go
	.type	regs_go, @function
regs_go:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, RUN(RUN_HOST_SP)
	movl	RUN(RUN_MASK), %eax
	movl	RUN(RUN_MASK + 4), %edx
	xsave64	RUN(RUN_HOST)
	xrstor64 RUN(RUN_LOAD)
	leaq	RUN(RUN_FLAG_STACK + 64), %rsp
	pushq	RUN(RUN_FLAGS)
	popfq
	movq	RUN(RUN_SP), %rsp
	movq	RUN(RUN_GPR + 0), %rax
	movq	RUN(RUN_GPR + 8), %rbx
	movq	RUN(RUN_GPR + 16), %rcx
	movq	RUN(RUN_GPR + 24), %rdx
	movq	RUN(RUN_GPR + 32), %rsi
	movq	RUN(RUN_GPR + 40), %rdi
	movq	RUN(RUN_GPR + 48), %rbp
	movq	RUN(RUN_GPR + 56), %r8
	movq	RUN(RUN_GPR + 64), %r9
	movq	RUN(RUN_GPR + 72), %r10
	movq	RUN(RUN_GPR + 80), %r11
	movq	RUN(RUN_GPR + 88), %r12
	movq	RUN(RUN_GPR + 96), %r13
	movq	RUN(RUN_GPR + 104), %r14
	movq	RUN(RUN_GPR + 112), %r15
	jmp	*RUN(RUN_FRAG)

	.globl	regs_end
regs_end:
	capture	RUN_AT_END
	movl	RUN(RUN_MASK), %eax
	movl	RUN(RUN_MASK + 4), %edx
	xrstor64 RUN(RUN_HOST)
	movq	RUN(RUN_HOST_SP), %rsp
	pushq	$2
	popfq
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret
	.size	regs_go, . - regs_go

/* The targets: store everything, say who they are, return with all as it was. */
	.macro	target name
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	endbr64
	capture	RUN_AT_TARGET
	movq	%rax, RUN(RUN_SCRATCH)
	leaq	\name(%rip), %rax
	movq	%rax, RUN(RUN_TARGET)
	movq	RUN(RUN_SCRATCH), %rax
	ret
	.size	\name, . - \name
	.endm

	target	regs_target_a
	target	regs_target_b

/* Functions of one site. All but the two calls are leaves: the red zone is theirs. */
	.macro	frag name, site:vararg
	.balign	16
	.globl	\name
	.type	\name, @function
\name:
	endbr64
	\site
	ret
	.size	\name, . - \name
	.endm

	frag	frag_call, call __SCT__regs
	frag	frag_tail, jmp __SCT__regs
	frag	frag_call_got, call *__SCT__regs@GOTPCREL(%rip)
	frag	frag_tail_got, jmp *__SCT__regs@GOTPCREL(%rip)
	.irp	cc, o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g
	frag	frag_j\cc, j\cc __SCT__regs
	.endr

/*
 * The same as frag_tail, each with one thing changed before the site, which
 * the comparison must notice.
 */
	.macro	spoil name, instruction:vararg
	.balign	16
	.globl	spoil_\name
	.type	spoil_\name, @function
spoil_\name:
	endbr64
	\instruction
	jmp	__SCT__regs
	.size	spoil_\name, . - spoil_\name
	.endm

	.section .rodata
	.balign	4
other_mxcsr:
	.long	0x1f80
other_fcw:
	.word	0x037f

	.text
	spoil	nothing, nop
	spoil	gpr, leaq 1(%r12), %r12
	spoil	flags, cmc
	spoil	direction, cld
	spoil	red_zone, movb $0, -16(%rsp)
	spoil	stack, movb $0, 8(%rsp)
	spoil	st, fchs
	spoil	fcw, fldcw other_fcw(%rip)
	spoil	mxcsr, ldmxcsr other_mxcsr(%rip)
	spoil	xmm, pxor %xmm15, %xmm15
	spoil	ymm, vzeroupper
	spoil	zmm, vpxorq %zmm31, %zmm31, %zmm31
	spoil	opmask, kxnorw %k5, %k5, %k5

	.section .note.GNU-stack, "", @progbits
