/* SPDX-License-Identifier: MIT */
/*
 * The stubs of percpu.c. %gs:8: the return address; %gs:16: the target.
 */
#include "lab.h"

	.text
	.globl	lab_percpu, lab_percpu_jmp
lab_percpu:
	pushq	%gs:8
lab_percpu_jmp:
	jmpq	*%gs:16

	.globl	lab_percpu_sti, lab_percpu_sti_jmp
lab_percpu_sti:
	pushq	%gs:8
	sti
lab_percpu_sti_jmp:
	jmpq	*%gs:16

	.globl	lab_percpu_nmi, lab_percpu_nmi_jmp
lab_percpu_nmi:
	pushq	%gs:8
	lab_self_nmi
	sti
lab_percpu_nmi_jmp:
	jmpq	*%gs:16

/* For traps in an NMI's handler, from words of their own (percpu_slots.c). */
	.globl	lab_percpu_slots
lab_percpu_slots:
	pushq	%gs:32
	jmpq	*%gs:40

	.section .note.GNU-stack, "", @progbits
