/* SPDX-License-Identifier: MIT */
/*
 * Return stubs: what a traced function returns to instead of its caller. Stub i knows where the
 * caller is, the address R in slot i (linux/entry/return_slots.c), so that nothing depends on which
 * stack it runs on or what became of the frames below: it tells that the function has returned and
 * goes on at R. Behind the bl stands how far the slot is from there, by which shunt_on_return finds
 * it. That returns to R in the place of the stub: the CPU's stack of return addresses is as it was
 * before the function was called.
 *
 * To an unwinder a stub is a function without a frame that was called from R: CFA = sp + 16, sp is
 * CFA - 16, and the return address is the word in the slot. (With CFA = sp libgcc would take the stub
 * and a handler for one frame.) The function has returned by x30, which says which stub it is; where
 * it lies on its stack signed, the bits that no address has are something else. So that one FDE
 * serves all:
 *
 *	DW_CFA_val_offset sp, -16
 *	DW_CFA_val_expression x30: breg30 0; const1u 16; shl; const1u 16; shr; const1s -8; and;
 *		plus_uconst 4; dup; deref_size 4; const1u 32; shl; const1u 32; shra; plus; deref
 *
 * An unwinder looks for the FDE of the address before the one that a function returns to: in
 * front of the first stub there is room.
 */
#include "arch/aarch64/routine.inc"

#define STUBS 65536 /* SHUNT_RETURN_STUBS in return_slots.h */

	.text
	.balign	16
	.globl	shunt_return_stubs
	.hidden	shunt_return_stubs
	.type	shunt_return_stubs, %function
#ifndef SHUNT_RETURN_STUBS_WITHOUT_CFI
	.cfi_startproc
	.cfi_def_cfa sp, 16
	.cfi_escape 0x14, 31, 2
	.cfi_escape 0x16, 30, 24, 0x8e, 0, 0x08, 16, 0x24, 0x08, 16, 0x25, 0x09, 0xf8, 0x1a, 0x23, 4, 0x12, 0x94, 4, 0x08, 32, 0x24, 0x08, 32, 0x26, 0x22, 0x06
#endif
	.inst	0, 0
shunt_return_stubs:
	.set	stub, 0
	.rept	STUBS
	bl	shunt_on_return
	.word	shunt_return_slots + 8 * stub - .
	.set	stub, stub + 1
	.endr
#ifndef SHUNT_RETURN_STUBS_WITHOUT_CFI
	.cfi_endproc
#endif
	.size	shunt_return_stubs, . - shunt_return_stubs

	.bss
	.balign	64
	.globl	shunt_return_slots
	.hidden	shunt_return_slots
	.type	shunt_return_slots, %object
	.size	shunt_return_slots, 8 * STUBS
shunt_return_slots:
	.zero	8 * STUBS

	end_file
