/* SPDX-License-Identifier: MIT */
/* The page of `shunt export --flame`: from flame_page to flame_page_end. */
	.section .rodata
	.globl	flame_page, flame_page_end
flame_page:
	.incbin	"flame.html"
flame_page_end:
	.byte	0
	.section .note.GNU-stack, "", @progbits
