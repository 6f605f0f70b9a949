/* SPDX-License-Identifier: MIT */
/* The forms of site_stub.c's stubs, one behind the other (struct stub). Never executed. */
#include "lab.h"

	.section .rodata
	.balign	64
	.globl	lab_site_stub, lab_site_stub_end, lab_site_stub_sti_end, lab_site_stub_nmi_end
lab_site_stub:
	.byte	0x68			/* pushq $imm32 */
	.long	0
	.byte	0xe9
	.long	0
lab_site_stub_end:
	.balign	16
	.byte	0x68
	.long	0
	sti
	.byte	0xe9
	.long	0
lab_site_stub_sti_end:
	.balign	16
	.byte	0x68
	.long	0
	lab_self_nmi
	sti
	.byte	0xe9
	.long	0
lab_site_stub_nmi_end:
	.balign	32

	.section .note.GNU-stack, "", @progbits
