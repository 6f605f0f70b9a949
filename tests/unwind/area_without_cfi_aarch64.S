/* SPDX-License-Identifier: MIT */
/*
 * The area of veneers of <shunt/module.h>, without call frame information. Of a program's
 * groups of the same name the linker keeps the first: this one has to come first.
 */
	.weak	__shunt_veneer_group
	.hidden	__shunt_veneer_group

	.section .bss.shunt_veneers, "awG", %nobits, __shunt_veneer_group, comdat
	.balign	64
words:
	.zero	32 * 8

	.section shunt_veneers, "axG", %progbits, __shunt_veneer_group, comdat
	.balign	16
veneers:
	.irp	word, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	hint	#34
	adrp	x16, words + 8 * \word
	ldr	x16, [x16, :lo12:(words + 8 * \word)]
	br	x16
	.endr

	.section .note.GNU-stack, "", %progbits
