/* SPDX-License-Identifier: MIT */
/*
 * What a static call reaches while its key is NULL or RET0: through the trampoline, and at sites
 * that have no form of their own for it.
 */
#include "arch/aarch64/routine.inc"

	.text

	/* void __static_call_nop(void): changes no register. */
	exported_routine __static_call_nop
	ret
	end_routine __static_call_nop

	/* long __static_call_return0(void): x0 = 0; all else unchanged. */
	exported_routine __static_call_return0
	mov	x0, #0
	ret
	end_routine __static_call_return0

	end_file
