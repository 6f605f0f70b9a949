/* SPDX-License-Identifier: MIT */
/*
 * What functions compiled with -pg -mfentry call at their entry, and those compiled with
 * -finstrument-functions at entry and return, until they are traced: nothing is done. Of these the
 * shared library exports the first alone, which in the C library does something. In a static
 * program the others must be here, too: the C library's are one function, and by it
 * an entry could not be told from a return.
 */
	.text

	.macro	handler name
	.weak	\name
	.type	\name, @function
	.balign	16
\name:
	.cfi_startproc
	endbr64
	ret
	.cfi_endproc
	.size	\name, . - \name
	.endm

	handler	__fentry__
	handler	__cyg_profile_func_enter
	handler	__cyg_profile_func_exit

	.section .note.GNU-stack, "", @progbits
