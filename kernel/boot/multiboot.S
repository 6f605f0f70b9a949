/* SPDX-License-Identifier: MIT */
/*
 * The first instructions: from 32-bit protected mode, as a multiboot 1 loader leaves
 * the CPU (QEMU; our own boot sector on Bochs does the same), to 64-bit C.
 *
 *	in: eax = 0x2badb002, ebx = the loader's information
 *
 * The page tables here map the first GiB to itself, all of it writable and executable.
 * They last until paging.c has built the real ones.
 */
#include "x86.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003 /* pages aligned; memory information */

	.section .boot, "ax", @progbits
	.code32
	.globl	_start
_start:					/* at the image's very start: the boot sector jumps here */
	jmp	start32

	.balign	4
	.long	MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

start32:
	cli
	cld
	movl	%ebx, %esi		/* kept for kernel_main() */

	/* .bss; a loader of a flat image has not cleared it. */
	movl	$__bss_start, %edi
	movl	$__bss_end, %ecx
	subl	%edi, %ecx
	shrl	$2, %ecx
	xorl	%eax, %eax
	rep stosl

	/* 512 large pages */
	movl	$boot_pdpt + 3, boot_pml4
	movl	$boot_pd + 3, boot_pdpt
	movl	$0x83, %eax
	movl	$boot_pd, %edi
1:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	cmpl	$boot_pd + 4096, %edi
	jne	1b

	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME | EFER_NXE, %eax
	wrmsr
	movl	$CR0_PG | CR0_WP | CR0_PE, %eax
	movl	%eax, %cr0
	lgdt	boot_gdt_pointer
	ljmp	$SEL_CODE, $start64

	.code64
start64:
	movw	$SEL_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movw	%ax, %fs
	movw	%ax, %gs
	leaq	boot_stack_end(%rip), %rsp
	xorl	%ebp, %ebp
	movl	%esi, %edi
	call	kernel_main
	ud2

	.section .rodata
	.balign	8
boot_gdt_pointer:
	.word	3 * 8 - 1
	.long	boot_gdt		/* cpu.c */

	.bss
	.balign	4096
boot_pml4:
	.zero	4096
boot_pdpt:
	.zero	4096
boot_pd:
	.zero	4096
boot_stack:
	.zero	16384
	.globl	boot_stack_end
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
