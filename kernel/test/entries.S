/* SPDX-License-Identifier: MIT */
/* Entries of #BP that tests install in the place of trap_entry_bp (hooks.h, ftrace_int3.h). */
#include "entry.inc"

	.text

	/* As trap_entry_bp, with another function in C. */
	.macro	gap_entry name, function
	begin_gap_entry \name, \function
	return_from_trap
	.endm

	gap_entry test_entry_locked, locked_breakpoint
	gap_entry test_entry_no_shadow, test_breakpoint_no_shadow
	gap_entry test_entry_spoiled, test_breakpoint_spoiled
	gap_entry ftrace_int3_regs_caller_entry, ftrace_int3_regs_caller

	.balign	16
	.globl	test_entry_no_gap
test_entry_no_gap:
	pushq	$0
	breakpoint_entry trap_breakpoint

	/* No shadow stack, and no gap: it does not execute the instruction. */
	.balign	16
	.globl	ftrace_int3_skip_entry
ftrace_int3_skip_entry:
	pushq	$0			/* in the place of an error code */
	pushq	$3
	call_handler ftrace_int3_skip

	.section .note.GNU-stack, "", @progbits
