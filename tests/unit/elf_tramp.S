/* SPDX-License-Identifier: MIT */
/*
 * Three trampolines with their keys, as the ELF reader's fixtures call them, and
 * two symbols whose names only look like a trampoline's: the reader must pass
 * them by.
 */
	.macro	trampoline name
	.globl	__SCT__\name
#ifdef ELF_HIDDEN
	.hidden	__SCT__\name
#endif
	.type	__SCT__\name, @function
__SCT__\name:
	endbr64
	jmp	*__SCK__\name(%rip)
	.size	__SCT__\name, . - __SCT__\name
	.endm

	.text
	.p2align 4
	trampoline foo
	trampoline bar
	trampoline baz

/* Shorter than the prefix, and of its length but different at the last byte. */
	.globl	__SCT
	.hidden	__SCT
	.type	__SCT, @function
__SCT:
	ret
	.size	__SCT, . - __SCT

	.globl	__SCT_x
	.hidden	__SCT_x
	.type	__SCT_x, @function
__SCT_x:
	ret
	.size	__SCT_x, . - __SCT_x

	.type	elf_default, @function
elf_default:
	leal	1(%rdi), %eax
	ret
	.size	elf_default, . - elf_default

	.data
	.p2align 3
	.globl	__SCK__foo, __SCK__bar, __SCK__baz
	.hidden	__SCK__foo, __SCK__bar, __SCK__baz
__SCK__foo:
	.quad	elf_default
__SCK__bar:
	.quad	elf_default
__SCK__baz:
	.quad	elf_default
	.size	__SCK__foo, 8
	.size	__SCK__bar, 8
	.size	__SCK__baz, 8

	.section .note.GNU-stack, "", @progbits
