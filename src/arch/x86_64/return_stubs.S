/* SPDX-License-Identifier: MIT */
/*
 * Return stubs: what a traced function returns to instead of its caller. Stub i knows where the
 * caller is, the address R in slot i (return_slots.c), so that nothing depends on which stack
 * it runs on or what became of the frames below: it tells that the function has returned
 * and jumps to R. jmp and not ret: the CPU has one return left over, that of the call in the stub,
 * and one that it has missed, the function's own.
 *
 * To an unwinder a stub is a function without a frame that was called from R: CFA = rsp + 8, rsp is
 * CFA - 8, and the return address is the word in the slot. (With CFA = rsp libgcc would take the
 * stub and a handler for one frame.) The slot is found by the displacement of the stub's own jmp,
 * so that one FDE serves all:
 *
 *	DW_CFA_val_offset rsp, -8
 *	DW_CFA_val_expression rip: breg16 0; const1s -16; and; plus_uconst 8; dup; deref_size 4;
 *		plus; plus_uconst 4; deref
 *
 * An unwinder looks for the FDE of the address before the one that a function returns to: in
 * front of the first stub there is room.
 */
#define STUBS 65536 /* SHUNT_RETURN_STUBS in return_slots.h */

	.text
	.balign	16
	.globl	shunt_return_stubs
	.hidden	shunt_return_stubs
	.type	shunt_return_stubs, @function
.Lbegin:
#ifndef SHUNT_RETURN_STUBS_WITHOUT_CFI
	.cfi_startproc
	.cfi_def_cfa rsp, 8
	.cfi_escape 0x14, 7, 1
	.cfi_escape 0x16, 16, 14, 0x80, 0, 0x09, 0xf0, 0x1a, 0x23, 8, 0x12, 0x94, 4, 0x22, 0x23, 4, 0x06
#endif
	.fill	16, 1, 0xcc
shunt_return_stubs:
	.set	stub, 0
	.rept	STUBS
	call	shunt_on_return
	notrack jmp *shunt_return_slots + 8 * stub(%rip)
	.balign	16, 0xcc
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
	.type	shunt_return_slots, @object
	.size	shunt_return_slots, 8 * STUBS
shunt_return_slots:
	.zero	8 * STUBS

	.section .note.GNU-stack, "", @progbits
