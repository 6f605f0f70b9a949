/* SPDX-License-Identifier: MIT */
/*
 * What the launcher runs, copied into the other process: the start routine of a thread, whose
 * argument is the block of launcher_block.h, and a system call as a function. Position-independent,
 * and data here.
 */
#include <asm/unistd.h>

#include "launcher_block.h"

#define PR_SET_NAME 15
#define SIG_UNBLOCK 1

	.section .rodata
	.globl	launcher_code, launcher_syscall, launcher_code_end
launcher_code:
	endbr64
	push	%rbx
	push	%rbp
	push	%r12			/* and the stack is a multiple of 16 */
	mov	%rdi, %rbx
	mov	$PR_SET_NAME, %edi
	lea	LAUNCHER_NAME(%rbx), %rsi
	mov	$__NR_prctl, %eax
	syscall
	mov	$SIG_UNBLOCK, %edi	/* what the held thread had blocked, and setuid() waits for */
	lea	LAUNCHER_SIGNALS(%rbx), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	mov	$__NR_rt_sigprocmask, %eax
	syscall
	xor	%ebp, %ebp		/* pauses since the last call */
.Lnext:
	cmpl	$0, LAUNCHER_LEAVE(%rbx)
	jne	.Lleave
	mov	LAUNCHER_COMMAND(%rbx), %r12d
	cmp	LAUNCHER_DONE(%rbx), %r12d
	jne	.Lcall
	cmp	$LAUNCHER_PAUSES, %ebp
	jae	.Lalone
	inc	%ebp
	lea	LAUNCHER_PAUSE(%rbx), %rdi
	xor	%esi, %esi
	mov	$__NR_nanosleep, %eax
	syscall
	jmp	.Lnext
.Lcall:
	xor	%ebp, %ebp
	mov	LAUNCHER_ARGUMENTS(%rbx), %rdi
	mov	LAUNCHER_ARGUMENTS+8(%rbx), %rsi
	mov	LAUNCHER_ARGUMENTS+16(%rbx), %rdx
	mov	LAUNCHER_ARGUMENTS+24(%rbx), %rcx
	mov	LAUNCHER_ARGUMENTS+32(%rbx), %r8
	mov	LAUNCHER_ARGUMENTS+40(%rbx), %r9
	xor	%eax, %eax
	call	*LAUNCHER_FUNCTION(%rbx)
	mov	%rax, LAUNCHER_RESULT(%rbx)
	mov	%r12d, LAUNCHER_DONE(%rbx)
	jmp	.Lnext
	/* Who commands may be about to write: the memory stays. */
.Lalone:
	movl	$1, LAUNCHER_ENDED(%rbx)
	xor	%eax, %eax
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	/* munmap() of this code, and of the block, returns to the thread's end. */
.Lleave:
	mov	LAUNCHER_BASE(%rbx), %rdi
	mov	LAUNCHER_SIZE(%rbx), %rsi
	mov	LAUNCHER_MUNMAP(%rbx), %rax
	pop	%r12
	pop	%rbp
	pop	%rbx
	jmp	*%rax

	/* long launcher_syscall(long number, five arguments): the result, -errno too */
	.balign	16
launcher_syscall:
	endbr64
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	syscall
	ret
launcher_code_end:
	.section .note.GNU-stack, "", @progbits
