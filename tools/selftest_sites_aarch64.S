/* SPDX-License-Identifier: MIT */
/*
 * The sites of `shunt selftest`, one of each form, as selftest_sites_x86_64.S has them. What goes
 * through the GOT, or hangs on a condition, is no site on aarch64: there is none of those.
 */
#include "arch/aarch64/routine.inc"

	.text

	.macro	call_site name, symbol
	routine \name
	stp	x29, x30, [sp, #-16]!
	.cfi_def_cfa_offset 16
	.cfi_offset x29, -16
	.cfi_offset x30, -8
	mov	x29, sp
	bl	\symbol
	ldp	x29, x30, [sp], #16
	.cfi_def_cfa_offset 0
	.cfi_restore x29
	.cfi_restore x30
	ret
	end_routine \name
	.endm

	.macro	tail_site name, symbol
	routine \name
	b	\symbol
	end_routine \name
	.endm

/* long NAME(long x): static_call(selftest)(x) */
	call_site site_call, __SCT__selftest
	tail_site site_tail, __SCT__selftest

/* void NAME(long x): static_call(selftest_null)(x) */
	call_site site_null_call, __SCT__selftest_null
	tail_site site_null_tail, __SCT__selftest_null

/* long NAME(long x): static_call(selftest_ret0)(x) */
	call_site site_ret0_call, __SCT__selftest_ret0
	tail_site site_ret0_tail, __SCT__selftest_ret0

	end_file
