/* SPDX-License-Identifier: MIT */
/*
 * The last step of a remap, as a restartable sequence (rseq(2), after Paul Turner
 * and Andrew Hunter). The caller names the sequence in its struct rseq, compares old pages
 * and new, and comes here. A thread that is preempted, takes a signal or is stopped by a
 * debugger goes on elsewhere:
 *
 *	outside of the sequence   the kernel clears the name, which is seen here
 *	in it                     at 3, by the kernel
 *
 * The system call is its last instruction: once in the kernel, the thread is behind it.
 */
#include <sys/syscall.h>

#define MAYMOVE_FIXED 3
#define SIGNATURE     0x53053053 /* RSEQ_SIG, with which the C library has registered */

	.section .data.rel.ro, "aw", @progbits
	.balign	32
	.globl	shunt_remap_sequence
	.hidden	shunt_remap_sequence
	.type	shunt_remap_sequence, @object
shunt_remap_sequence:
	.long	0, 0		/* version, flags */
	.quad	1f, 2f - 1f, 3f	/* start, length, where to go */
	.size	shunt_remap_sequence, . - shunt_remap_sequence

/*
 * long shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun):
 * mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, start). Returns rax, 1 if disturbed.
 */
	.text
	.balign	16
	.globl	shunt_remap_move
	.hidden	shunt_remap_move
	.type	shunt_remap_move, @function
shunt_remap_move:
	.cfi_startproc
	endbr64
	movq	%rdx, %r8
	movq	%rsi, %rdx
	movl	$MAYMOVE_FIXED, %r10d
	leaq	shunt_remap_sequence(%rip), %r9
	movl	$SYS_mremap, %eax
1:	cmpq	%r9, (%rcx)
	jne	3f
	.globl	shunt_remap_syscall
	.hidden	shunt_remap_syscall
shunt_remap_syscall:
	syscall
2:	ret
	.byte	0x0f, 0xb9, 0x3d	/* ud1 SIGNATURE(%rip), %edi: for disassemblers */
	.long	SIGNATURE
3:	movl	$1, %eax
	ret
	.cfi_endproc
	.size	shunt_remap_move, . - shunt_remap_move

	.section .note.GNU-stack, "", @progbits
