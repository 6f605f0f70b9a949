/* SPDX-License-Identifier: MIT */
/*
 * What the dynamic linker calls when it loads and unloads (linux/entry/notice.c). Other libshunts
 * know it by what stands before it: a name, and where the entry of the next one is.
 */
	.text
	.balign	16
	.ascii	"ShuntNt1"
	.quad	shunt_notice_next - .
	.globl	shunt_notice_entry
	.hidden	shunt_notice_entry
	.type	shunt_notice_entry, @function
shunt_notice_entry:
	.cfi_startproc
	endbr64
	jmp	shunt_on_notice
	.cfi_endproc
	.size	shunt_notice_entry, . - shunt_notice_entry

	.section .note.GNU-stack, "", @progbits
