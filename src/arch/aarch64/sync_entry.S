/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel enters with the signal of the core sync. Every libshunt in a process has its
 * own signal, and knows those of the others by the first 18 bytes of the handler; the last of "Shn"
 * is the version.
 */
#include "arch/aarch64/routine.inc"

	.text
	.balign	32
	routine	shunt_sync_entry
	b	1f
	.ascii	"Shn\001sync"
1:	nop
	b	shunt_on_sync
	end_routine shunt_sync_entry

	/*
	 * A module with this note has a libshunt in it (linux/trap/other_libshunts.c). That of a CPU
	 * on which nothing traps has no entries of SIGTRAP: what it tells is where the module is.
	 */
	.section .rodata.shunt_trap_entries, "a", %progbits
	.balign	32
	.globl	shunt_trap_entries
	.hidden	shunt_trap_entries
	.type	shunt_trap_entries, %object
	.size	shunt_trap_entries, 32
shunt_trap_entries:
	.zero	32

	.section .note.shunt, "a", %note
	.balign	4
	.long	6, 4, 1
	.ascii	"Shunt\0\0\0"
	.long	shunt_trap_entries - .

	end_file
