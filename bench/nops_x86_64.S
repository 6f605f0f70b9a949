/* SPDX-License-Identifier: MIT */
/*
 * 100,000 five-byte nops, NOP_STRIDE bytes apart, that are no key's: sites for
 * text_poke_bp(). Nothing executes them.
 */
	.text
	.globl	sites_nops
	.hidden	sites_nops
	.balign	64
sites_nops:
	.rept	100000
	.byte	0x0f, 0x1f, 0x44, 0x00, 0x00
	.skip	NOP_STRIDE - 5, 0x90
	.endr

	.section .note.GNU-stack, "", @progbits
