/* SPDX-License-Identifier: MIT */
/*
 * Calls and tail calls that may be NULL, at each of the 64 offsets of a cache line and across a page in
 * each way: void (*)(int *), which call flip_call and flip_tail. And two instructions that differ in two
 * bytes, across a page: int (*)(void).
 */
	.text

	.macro	at align, off
	.balign	\align, 0xcc
	.if \off
	.skip	\off, 0xcc
	.endif
	.endm

	.macro	call_site n, align, off
	.balign	64, 0xcc
.Lcall\n:
	endbr64
	subq	$8, %rsp
	jmp	.Lcall_insn\n
	at	\align, \off
.Lcall_insn\n:
	call	__SCT__flip_call
	addq	$8, %rsp
	ret
	.pushsection .data.rel.ro.flip_calls, "aw", @progbits
	.quad	.Lcall\n
	.popsection
	.endm

	.macro	tail_site n, align, off
	.balign	64, 0xcc
.Ltail\n:
	endbr64
	jmp	.Ltail_insn\n
	at	\align, \off
.Ltail_insn\n:
	jmp	__SCT__flip_tail
	.pushsection .data.rel.ro.flip_tails, "aw", @progbits
	.quad	.Ltail\n
	.popsection
	.endm

	.pushsection .data.rel.ro.flip_calls, "aw", @progbits
	.balign	8
	.globl	flip_calls
flip_calls:
	.popsection
	.pushsection .data.rel.ro.flip_tails, "aw", @progbits
	.balign	8
	.globl	flip_tails
flip_tails:
	.popsection

	.altmacro
	.set	i, 0
	.rept	64
	call_site %i, 64, %i
	tail_site %i, 64, %i
	.set	i, i + 1
	.endr
	.rept	4
	call_site %i, 4096, %(4096 - 68 + i)
	tail_site %i, 4096, %(4096 - 68 + i)
	.set	i, i + 1
	.endr

	/* mov $1,%al, which is to become mov $2,%ah and back. */
	.balign	64, 0xcc
	.globl	flip_two_bytes, flip_two_bytes_site
flip_two_bytes:
	endbr64
	xorl	%eax, %eax
	jmp	flip_two_bytes_site
	.balign	4096, 0xcc
	.skip	4095, 0xcc
flip_two_bytes_site:
	movb	$1, %al
	ret

	.section .note.GNU-stack, "", @progbits
