/* SPDX-License-Identifier: MIT */
/*
 * Where an application processor starts: real mode, at AP_START, to which smp.c has
 * copied this page. It goes to 64-bit mode in one step, with the real page tables.
 * One at a time, so that one stack pointer will do.
 */
#include "memory.h"
#include "x86.h"

#define AT(label) (label - ap_start + AP_START)

	.section .rodata
	.globl	ap_start, ap_end, ap_cr3, ap_stack
	.balign	16
	.code16
ap_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	lgdtl	AT(gdt_pointer)
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	AT(ap_cr3), %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME | EFER_NXE, %eax
	wrmsr
	movl	$CR0_PG | CR0_WP | CR0_PE, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_CODE, $AT(start64)

	.code64
start64:
	movw	$SEL_DATA, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	xorl	%eax, %eax
	movw	%ax, %fs
	movw	%ax, %gs
	movq	AT(ap_stack), %rsp
	xorl	%ebp, %ebp
	movq	$ap_main, %rax
	call	*%rax
	ud2

	.balign	8
ap_cr3:	.quad	0
ap_stack:
	.quad	0
gdt:	.quad	0			/* "accessed" is set: the page is not writable */
	.quad	0x00af9b000000ffff
	.quad	0x00cf93000000ffff
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	AT(gdt)
ap_end:

	.section .note.GNU-stack, "", @progbits
