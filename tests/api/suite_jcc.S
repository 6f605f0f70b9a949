/* SPDX-License-Identifier: MIT */
/*
 * A conditional tail call of a static call. gcc never writes one, clang only where
 * it optimises for size; hence by hand, so that every variant has one. And functions that
 * begin as a trampoline does, and are none.
 */
#ifdef __x86_64__
	.att_syntax prefix	/* under clang -masm=intel too */
	.text

/* int jcc_site(int edi): edi < 0: st_add(edi); else -1. */
	.balign	16
	.globl	jcc_site
	.type	jcc_site, @function
jcc_site:
	.cfi_startproc
	endbr64
	movl	$-1, %eax
	testl	%edi, %edi
	js	__SCT__st_add
	ret
	.cfi_endproc
	.size	jcc_site, . - jcc_site

/* int jump_to_add2(int): through a word that is no key. */
	.balign	16
	.globl	jump_to_add2
	.type	jump_to_add2, @function
jump_to_add2:
	.cfi_startproc
	endbr64
	jmp	*1f(%rip)
	.cfi_endproc
	.size	jump_to_add2, . - jump_to_add2

/* int jump_astray(int): through a word that is in no module. Not to be called. */
	.balign	16
	.globl	jump_astray
	.type	jump_astray, @function
jump_astray:
	.cfi_startproc
	endbr64
	jmp	*0x7ffffff0(%rip)
	.cfi_endproc
	.size	jump_astray, . - jump_astray
#else /* aarch64, where the site is the branch that the condition leads over or not */
	.text

	.macro	function name
	.balign	16
	.globl	\name
	.type	\name, %function
\name:
	.cfi_startproc
	hint	#34		/* bti c */
	.endm

	.macro	end_function name
	.cfi_endproc
	.size	\name, . - \name
	.endm

	function jcc_site
	tbnz	w0, #31, 0f
	mov	w0, #-1
	ret
0:	b	__SCT__st_add
	end_function jcc_site

	function jump_to_add2
	adrp	x16, 1f
	ldr	x16, [x16, :lo12:1f]
	br	x16
	end_function jump_to_add2

	function jump_astray
	.inst	0xf03ffff0	/* adrp x16, 2 GiB on */
	ldr	x16, [x16]
	br	x16
	end_function jump_astray
#endif

	.section .data.rel.ro, "aw", %progbits
	.balign	8
1:	.quad	add2

	.section .note.GNU-stack, "", %progbits
