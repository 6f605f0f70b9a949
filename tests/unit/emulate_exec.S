/* SPDX-License-Identifier: MIT */
/*
 * The CPU's own opinion, for test_emulate.c: run one instruction under given
 * registers and flags and see what became of them.
 */
	.text

/*
 * void emulate_exec(struct shunt_regs *regs)
 *
 * Loads ax, flags and sp from @regs, goes to regs->ip, and stores what they are
 * when the instruction there has run. Each place that the instruction may lead
 * to must hold a landing pad: lea of its own address to r11, then a jmp to
 * emulate_landed. Neither touches the flags or the stack.
 *
 * rbx carries @regs across; r10 and r11 are clobbered, all else is kept. The
 * direction flag is put back before C code sees it.
 */
	.globl	emulate_exec
	.type	emulate_exec, @function
emulate_exec:
	push	%rbx
	push	%rbp
	mov	%rdi, %rbx
	mov	%rsp, %rbp
	mov	24(%rbx), %rax
	mov	(%rbx), %r10
	pushq	16(%rbx)
	popfq
	mov	8(%rbx), %rsp
	jmp	*%r10

	.globl	emulate_landed
emulate_landed:
	mov	%r11, (%rbx)
	mov	%rsp, 8(%rbx)
	mov	%rax, 24(%rbx)
	mov	%rbp, %rsp
	pushfq
	popq	16(%rbx)
	cld
	pop	%rbp
	pop	%rbx
	ret
	.size	emulate_exec, . - emulate_exec

/*
 * bool emulate_jcc(unsigned cc, uintptr_t flags): whether the CPU takes the jcc
 * numbered @cc under @flags. The conditions are spelt out for the assembler, so
 * that nothing here rests on the numbering in insn.c. Clobbers rax and rdx.
 */
	.globl	emulate_jcc
	.type	emulate_jcc, @function
emulate_jcc:
	lea	.Ltable(%rip), %rax
	movslq	(%rax,%rdi,4), %rdx
	add	%rax, %rdx
	push	%rsi
	popfq
	jmp	*%rdx

	.macro	one name
.L\name:
	j\name	.Ltaken
	jmp	.Lnot_taken
	.endm
	.irp	name, o, no, b, nb, z, nz, be, nbe, s, ns, p, np, l, nl, le, nle
	one	\name
	.endr

.Ltaken:
	cld
	mov	$1, %eax
	ret
.Lnot_taken:
	cld
	xor	%eax, %eax
	ret
	.size	emulate_jcc, . - emulate_jcc

	.section .rodata
	.balign	4
.Ltable:
	.irp	name, o, no, b, nb, z, nz, be, nbe, s, ns, p, np, l, nl, le, nle
	.long	.L\name - .Ltable
	.endr

	.section .note.GNU-stack, "", @progbits
