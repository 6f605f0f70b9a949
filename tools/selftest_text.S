/* SPDX-License-Identifier: MIT */
/*
 * Two pages of text, which nothing runs: a child of the self-test writes to them and replaces them
 * (selftest_system.c). Of this program's file, and found without /proc.
 */
	.text
	.balign 4096
	.globl selftest_text
	.hidden selftest_text
	.type selftest_text, %object
selftest_text:
	.fill 4096, 1, 0xcc
	.fill 4096, 1, 0
	.size selftest_text, . - selftest_text

	.section .note.GNU-stack, "", %progbits
