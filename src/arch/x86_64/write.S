/* SPDX-License-Identifier: MIT */
/*
 * A write of text, as the last step of a restartable sequence: see remap.S. The caller names the
 * sequence, looks at what it is about to write over, and comes here.
 */
#include <sys/syscall.h>

#define DISTURBED (-85)
#define SIGNATURE 0x53053053 /* RSEQ_SIG, with which the C library has registered */

	.section .data.rel.ro, "aw", @progbits
	.balign	32
	.globl	shunt_write_sequence
	.hidden	shunt_write_sequence
	.type	shunt_write_sequence, @object
shunt_write_sequence:
	.long	0, 0		/* version, flags */
	.quad	1f, 2f - 1f, 3f	/* start, length, where to go */
	.size	shunt_write_sequence, . - shunt_write_sequence

/*
 * long shunt_write_undisturbed(long fd, const void *bytes, size_t len, uintptr_t offset,
 *				const uint64_t *begun): pwrite(fd, bytes, len, offset). Returns
 * rax, DISTURBED if disturbed.
 */
	.text
	.balign	16
	.globl	shunt_write_undisturbed
	.hidden	shunt_write_undisturbed
	.type	shunt_write_undisturbed, @function
shunt_write_undisturbed:
	.cfi_startproc
	endbr64
	movq	%rcx, %r10
	leaq	shunt_write_sequence(%rip), %r9
	movl	$SYS_pwrite64, %eax
1:	cmpq	%r9, (%r8)
	jne	3f
	.globl	shunt_write_syscall
	.hidden	shunt_write_syscall
shunt_write_syscall:
	syscall
2:	ret
	.byte	0x0f, 0xb9, 0x3d	/* ud1 SIGNATURE(%rip), %edi: for disassemblers */
	.long	SIGNATURE
3:	movq	$DISTURBED, %rax
	ret
	.cfi_endproc
	.size	shunt_write_undisturbed, . - shunt_write_undisturbed

	.section .note.GNU-stack, "", @progbits
