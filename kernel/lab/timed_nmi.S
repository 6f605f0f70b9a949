/* SPDX-License-Identifier: MIT */
/* The two ends of timed_nmi.c. */
#define APIC_COMMAND 0xfee00300

	.data
	.balign	64
	.globl	lab_timed_nmi
lab_timed_nmi:
fire:	.long	0
delay:	.long	0
fired:	.long	0
landed:	.long	0

	.text
/*
 * void lab_timed_nmi_fire(void): wait until it is to fire; some instructions later, an NMI to CPU 0
 * (the high word of the command is 0).
 */
	.globl	lab_timed_nmi_fire
lab_timed_nmi_fire:
	movl	$APIC_COMMAND, %edi
1:	cmpl	$0, fire
	je	1b
	movl	$0, fire
	movl	delay, %eax
	movl	$2f, %ecx
	subq	%rax, %rcx
	jmp	*%rcx
	.fill	256, 1, 0x90
2:	rdtsc
	movl	%eax, fired
	movl	$0x4400, (%rdi)
	ret

/* The gate of NMI: the time, and on to the kernel's own entry. */
	.balign	16
	.globl	lab_timed_nmi_entry
lab_timed_nmi_entry:
	pushq	%rax
	pushq	%rdx
	rdtsc
	movl	%eax, landed
	popq	%rdx
	popq	%rax
	jmp	trap_entries + 2 * 32

	.section .note.GNU-stack, "", @progbits
