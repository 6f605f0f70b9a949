/* SPDX-License-Identifier: MIT */
/*
 * A write of text, as the last step of a restartable sequence: see arch/x86_64/write.S, of which
 * this is the same.
 */
#include <sys/syscall.h>

#include "arch/aarch64/routine.inc"

#define DISTURBED (-85)
#define SIGNATURE 0xd428bc00 /* RSEQ_SIG, with which the C library has registered */

	.section .data.rel.ro, "aw", %progbits
	.balign	32
	.globl	shunt_write_sequence
	.hidden	shunt_write_sequence
	.type	shunt_write_sequence, %object
shunt_write_sequence:
	.long	0, 0		/* version, flags */
	.quad	1f, 2f - 1f, 3f	/* start, length, where to go */
	.size	shunt_write_sequence, . - shunt_write_sequence

	/*
	 * long shunt_write_undisturbed(long fd, const void *bytes, size_t len, uintptr_t offset,
	 *				const uint64_t *begun): pwrite(fd, bytes, len, offset).
	 * Returns x0, DISTURBED if disturbed.
	 */
	.text
	routine	shunt_write_undisturbed
	adrp	x6, shunt_write_sequence
	add	x6, x6, :lo12:shunt_write_sequence
	mov	x8, #SYS_pwrite64
1:	ldr	x7, [x4]
	cmp	x7, x6
	b.ne	4f
	.globl	shunt_write_syscall
	.hidden	shunt_write_syscall
shunt_write_syscall:
	svc	#0
2:	ret
	.inst	SIGNATURE	/* brk #0x45e0 */
3:	hint	#36		/* bti j */
4:	mov	x0, #DISTURBED
	ret
	end_routine shunt_write_undisturbed

	end_file
