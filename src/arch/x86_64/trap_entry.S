/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel enters with SIGTRAP: one entry for each action that libshunt has found and
 * taken the place of, so that whoever was told an entry's address as the handler before, calls
 * or restores the chain as it was then (trap_chain.c).
 *
 * Every libshunt in a process has entries of its own, and knows those of the others by their
 * first 21 bytes:
 *
 *	f3 0f 1e fa             endbr64
 *	0f 1f 80 "Shn" 01       nopl  magic(%rax): the last byte is the version
 *	0f 1f 80 "trap"         nopl  magic(%rax)
 *	0f 1f 05 disp32         nopl  record(%rip): the action that traps are passed on to
 *
 * An entry has registers as the kernel leaves them: rdi signal, rsi siginfo, rdx ucontext. The
 * function behind it returns the handler to go on with, which is entered as the kernel would
 * have, on the same frame; or NULL. It is told where its return address is, in r8.
 */
#define ENTRIES 64 /* SHUNT_TRAP_ENTRIES in trap.h */

	.text
	.balign	32
	.globl	shunt_trap_entries
	.hidden	shunt_trap_entries
	.type	shunt_trap_entries, @function
shunt_trap_entries:
	.cfi_startproc
	.set	entry, 0
	.rept	ENTRIES
	.balign	32
	endbr64
	.byte	0x0f, 0x1f, 0x80
	.ascii	"Shn\001"
	.byte	0x0f, 0x1f, 0x80
	.ascii	"trap"
	.byte	0x0f, 0x1f, 0x05
	.long	shunt_trap_records + 32 * entry - . - 4
	movb	$entry, %cl
	jmp	on_trap
	.set	entry, entry + 1
	.endr
	.cfi_endproc
	.size	shunt_trap_entries, . - shunt_trap_entries

	.balign	16
	.type	on_trap, @function
on_trap:
	.cfi_startproc
	pushq	%rdi
	.cfi_adjust_cfa_offset 8
	pushq	%rsi
	.cfi_adjust_cfa_offset 8
	pushq	%rdx
	.cfi_adjust_cfa_offset 8
	movzbl	%cl, %ecx
	leaq	24(%rsp), %r8
	call	shunt_on_sigtrap
	popq	%rdx
	.cfi_adjust_cfa_offset -8
	popq	%rsi
	.cfi_adjust_cfa_offset -8
	popq	%rdi
	.cfi_adjust_cfa_offset -8
	testq	%rax, %rax
	jz	0f
	lock decl shunt_trap_passing(%rip)
	notrack jmp *%rax
0:	ret
	.cfi_endproc
	.size	on_trap, . - on_trap

	/* struct shunt_action, one for each entry. */
	.bss
	.balign	64
	.globl	shunt_trap_records
	.hidden	shunt_trap_records
	.type	shunt_trap_records, @object
	.size	shunt_trap_records, 32 * ENTRIES
shunt_trap_records:
	.zero	32 * ENTRIES

	/* A module with this note has a libshunt in it, whose entries it tells (other_libshunts.c). */
	.section .note.shunt, "a", @note
	.balign	4
	.long	6, 4, 1
	.ascii	"Shunt\0\0\0"
	.long	shunt_trap_entries - .

	.section .note.GNU-stack, "", @progbits
