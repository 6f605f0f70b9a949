/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel enters with the signal of the core sync. Every libshunt in a process has its
 * own signal, and knows those of the others by the first 18 bytes of the handler:
 *
 *	f3 0f 1e fa             endbr64
 *	0f 1f 80 "Shn" 01       nopl  magic(%rax): the last byte is the version
 *	0f 1f 80 "sync"         nopl  magic(%rax)
 */
	.text
	.balign	32
	.globl	shunt_sync_entry
	.hidden	shunt_sync_entry
	.type	shunt_sync_entry, @function
shunt_sync_entry:
	.cfi_startproc
	endbr64
	.byte	0x0f, 0x1f, 0x80
	.ascii	"Shn\001"
	.byte	0x0f, 0x1f, 0x80
	.ascii	"sync"
	jmp	shunt_on_sync
	.cfi_endproc
	.size	shunt_sync_entry, . - shunt_sync_entry

	.section .note.GNU-stack, "", @progbits
