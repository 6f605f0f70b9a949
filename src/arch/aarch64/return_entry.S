/* SPDX-License-Identifier: MIT */
/*
 * What return stubs call (return_stubs.S): x30 is 4 bytes behind the beginning of the stub, the
 * stack pointer what the function has left. All registers but x16, x17, x30 and the flags are as the
 * function left them, and stay so: its caller may know which ones it leaves alone.
 */
#include "arch/aarch64/ftrace_save.inc"
#include "arch/aarch64/routine.inc"

#define WANTS_RAW 1 /* SHUNT_WANTS_* in fgraph.h: above it are those with a graph's */

	.text
	.balign	64
	.globl	shunt_on_return
	.hidden	shunt_on_return
	.type	shunt_on_return, %function
shunt_on_return:
	.cfi_startproc
	adrp	x16, shunt_returns_wanted
	ldrb	w16, [x16, :lo12:shunt_returns_wanted]
	cbz	w16, 3f
	.cfi_remember_state
	mov	w17, w16
	frame_begin FTRACE_FORM_STUB
	sub	x16, x30, #4
	str	x16, [sp, #FTRACE_IP]
	str	x30, [sp, #FTRACE_PC]
	cmp	w17, #WANTS_RAW
	b.hi	1f
	mov	x0, #0
	ldr	x1, [sp, #FTRACE_SP]
	adrp	x16, shunt_raw_return
	ldr	x16, [x16, :lo12:shunt_raw_return]
	blr	x16
	b	2f
	/* With a guard, and the word below it, as in ftrace_stubs.S. */
1:	sub	sp, sp, #16
	adr	x16, shunt_on_return
	str	x16, [sp, #8]
	add	x0, sp, #16
	add	x1, sp, #16
	bl	shunt_graph_returned
2:	frame_end
	.cfi_restore_state
3:	ldrsw	x16, [x30]
	ldr	x30, [x30, x16]
	ret
	.globl	shunt_on_return_end
	.hidden	shunt_on_return_end
shunt_on_return_end:
	.cfi_endproc
	.size	shunt_on_return, . - shunt_on_return

	/*
	 * Whether this thread has a guarded control stack, in x0. chkfeat is a nop where there is
	 * none, and clears the bit where it is on.
	 */
	routine	shunt_has_shadow_stack
	mov	x16, #1
	hint	#40		/* chkfeat x16 */
	eor	x0, x16, #1
	and	x0, x0, #1
	ret
	end_routine shunt_has_shadow_stack

	end_file
