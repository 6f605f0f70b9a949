/* SPDX-License-Identifier: MIT */
/*
 * The area of veneers of <shunt/module.h>, without call frame information. Of a program's
 * groups of the same name the linker keeps the first: this one has to come first.
 */
	.weak	__shunt_veneer_group
	.hidden	__shunt_veneer_group

	.section .bss.shunt_veneers, "awG", @nobits, __shunt_veneer_group, comdat
	.balign	64
words:
	.zero	32 * 8

	.section shunt_veneers, "axG", @progbits, __shunt_veneer_group, comdat
	.balign	16
veneers:
	.rept	32
	jmp	*words + (. - veneers)(%rip)
	int3
	int3
	.endr

	.section .note.GNU-stack, "", @progbits
