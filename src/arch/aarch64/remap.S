/* SPDX-License-Identifier: MIT */
/*
 * The last step of a remap, as a restartable sequence: see arch/x86_64/remap.S, of which this is
 * the same.
 */
#include <sys/syscall.h>

#include "arch/aarch64/routine.inc"

#define MAYMOVE_FIXED 3
#define SIGNATURE     0xd428bc00 /* RSEQ_SIG, with which the C library has registered */

	.section .data.rel.ro, "aw", %progbits
	.balign	32
	.globl	shunt_remap_sequence
	.hidden	shunt_remap_sequence
	.type	shunt_remap_sequence, %object
shunt_remap_sequence:
	.long	0, 0		/* version, flags */
	.quad	1f, 2f - 1f, 3f	/* start, length, where to go */
	.size	shunt_remap_sequence, . - shunt_remap_sequence

	/*
	 * long shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun):
	 * mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, start). Returns x0, 1 if disturbed.
	 */
	.text
	routine	shunt_remap_move
	mov	x5, x3
	mov	x4, x2
	mov	x2, x1
	mov	x3, #MAYMOVE_FIXED
	adrp	x6, shunt_remap_sequence
	add	x6, x6, :lo12:shunt_remap_sequence
	mov	x8, #SYS_mremap
1:	ldr	x7, [x5]
	cmp	x7, x6
	b.ne	4f
	.globl	shunt_remap_syscall
	.hidden	shunt_remap_syscall
shunt_remap_syscall:
	svc	#0
2:	ret
	.inst	SIGNATURE	/* brk #0x45e0 */
3:	hint	#36		/* bti j */
4:	mov	x0, #1
	ret
	end_routine shunt_remap_move

	end_file
