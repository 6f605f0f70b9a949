/* SPDX-License-Identifier: MIT */
/*
 * The recorder's hooks of ordinary sessions (all calls, by the processor's clock), as trace/hooks.c
 * has them, with fewer registers: core/ftrace_raw.h, is_sparing. Where there is no room for the
 * event, or it is one of another kind, they call those.
 *
 *	rdi: ip, of returns the function or 0; rsi: sp; edx: how; all of them, rax and rcx may be
 *	changed
 */
#include "arch/x86_64/stub.inc"

#define RING_LIMIT 8 /* struct trace_ring; head is at 0 */
#define RING_SLOTS 4096 /* on another page than these */
#define RING_MASK  4104
#define RING_START 4112

	/*
	 * To rcx the ring; to rax the event's first word; to rsi the stack's part of the second.
	 * To \slow, with rdi, rsi and rdx as they were, where there is no room.
	 */
	.macro	make_event slow
	movq	trace_own_ring@gottpoff(%rip), %rcx
	movq	%fs:(%rcx), %rcx
	movq	(%rcx), %rax
	cmpq	RING_LIMIT(%rcx), %rax
	jae	\slow
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
	subq	RING_START(%rcx), %rax
	shlq	$15, %rax
	movq	%rsi, %rdx		/* bits 3 to 17 of sp */
	shlq	$46, %rdx
	shrq	$49, %rdx
	orq	%rdx, %rax
	shlq	$31, %rsi		/* bits 18 to 32 */
	shrq	$49, %rsi
	.endm

	/* The slot is claimed by one instruction; the rest is put() of trace/hooks.c. */
	.macro	put_event word1
	movl	$1, %edx
	xaddq	%rdx, (%rcx)
	andq	RING_MASK(%rcx), %rdx
	shlq	$4, %rdx
	addq	RING_SLOTS(%rcx), %rdx
	movq	$0, 8(%rdx)
	movq	%rax, (%rdx)
	movq	\word1, 8(%rdx)
	.endm

	.hidden	trace_own_ring, trace_slow_entry, trace_slow_return
	.text
	stub_begin trace_fast_entry, 64
	testl	%edx, %edx		/* SHUNT_RAW_ENTRY */
	jnz	1f
	make_event 1f
	shlq	$47, %rsi		/* TRACE_ENTRY is 0 */
	orq	%rdi, %rsi
	put_event %rsi
	ret
1:	go_on_in_c trace_slow_entry
	stub_end trace_fast_entry

	stub_begin trace_fast_return, 64
	make_event 1f
	btsq	$15, %rsi		/* TRACE_RETURN is 1 */
	shlq	$47, %rsi
	orq	%rdi, %rsi
	put_event %rsi
	ret
1:	go_on_in_c trace_slow_return
	stub_end trace_fast_return

	.section .note.GNU-stack, "", @progbits
