/* SPDX-License-Identifier: MIT */
/*
 * The stubs of retpoline.c. %gs:8: the return address; %gs:16: the target. No register is
 * used and no flag changed: the site's caller may have saved nothing but rax.
 */
#include "lab.h"

	.text

	/*
	 * A retpoline: to the target by a ret, which the CPU predicts to lead behind the
	 * call. There speculation is caught in a loop.
	 */
	.macro	retpoline name
	.globl	\name, \name\()_target
\name:
	pushq	%gs:8
	call	2f
1:	pause
	lfence
	jmp	1b
2:	leaq	8(%rsp), %rsp		/* the call's word makes place for the target */
\name\()_target:
	pushq	%gs:16
	.endm

	retpoline lab_retpoline
	ret

	.globl	lab_retpoline_sti_ret, lab_retpoline_nmi_ret
	retpoline lab_retpoline_sti
	sti
lab_retpoline_sti_ret:
	ret

	retpoline lab_retpoline_nmi
	lab_self_nmi
	sti
lab_retpoline_nmi_ret:
	ret

	.section .note.GNU-stack, "", @progbits
