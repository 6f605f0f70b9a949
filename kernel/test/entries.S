/* SPDX-License-Identifier: MIT */
/* Entries of #BP that tests install in the place of trap_entry_bp (hooks.h). */
#include "entry.inc"

	.text

	/* As trap_entry_bp, with another function in C. */
	.macro	gap_entry name, function
	.balign	16
	.globl	\name
\name:
	pushq	$0
	make_gap
	breakpoint_entry \function
	.endm

	gap_entry test_entry_locked, locked_breakpoint
	gap_entry test_entry_no_shadow, test_breakpoint_no_shadow
	gap_entry test_entry_spoiled, test_breakpoint_spoiled

	.balign	16
	.globl	test_entry_no_gap
test_entry_no_gap:
	pushq	$0
	breakpoint_entry trap_breakpoint

	.section .note.GNU-stack, "", @progbits
