/* SPDX-License-Identifier: MIT */
/*
 * Assembly of tests that call a function with registers of their own and look at what comes back:
 * a string for the beginning of a top-level asm.
 *
 *	func NAME           a function's label, global, at a multiple of 16
 *	save_registers      rbx, rbp and r12 on the stack
 *	load_general BASE   rax rcx rdx rsi rdi r8 r9 r10 r11 from memory at BASE, rdi last
 *	store_general       the same to memory at rbp
 *	restore_registers   and return
 */
#ifndef SHUNT_TESTS_TRACE_REGISTERS_X86_64_H
#define SHUNT_TESTS_TRACE_REGISTERS_X86_64_H

#define REGISTER_MACROS                \
	".macro func name\n"           \
	".balign 16\n"                 \
	".globl \\name\n"              \
	".type \\name, @function\n"    \
	"\\name:\n"                    \
	".endm\n"                      \
	".macro save_registers\n"      \
	".irp r, rbx, rbp, r12\n"      \
	"	pushq %\\r\n"                \
	"	.cfi_adjust_cfa_offset 8\n"  \
	"	.cfi_rel_offset %\\r, 0\n"   \
	".endr\n"                      \
	".endm\n"                      \
	".macro load_general base\n"   \
	"	movq (\\base), %rax\n"       \
	"	movq 8(\\base), %rcx\n"      \
	"	movq 16(\\base), %rdx\n"     \
	"	movq 24(\\base), %rsi\n"     \
	"	movq 40(\\base), %r8\n"      \
	"	movq 48(\\base), %r9\n"      \
	"	movq 56(\\base), %r10\n"     \
	"	movq 64(\\base), %r11\n"     \
	"	movq 32(\\base), %rdi\n"     \
	".endm\n"                      \
	".macro store_general\n"       \
	"	movq %rax, (%rbp)\n"         \
	"	movq %rcx, 8(%rbp)\n"        \
	"	movq %rdx, 16(%rbp)\n"       \
	"	movq %rsi, 24(%rbp)\n"       \
	"	movq %rdi, 32(%rbp)\n"       \
	"	movq %r8, 40(%rbp)\n"        \
	"	movq %r9, 48(%rbp)\n"        \
	"	movq %r10, 56(%rbp)\n"       \
	"	movq %r11, 64(%rbp)\n"       \
	".endm\n"                      \
	".macro restore_registers\n"   \
	".irp r, r12, rbp, rbx\n"      \
	"	popq %\\r\n"                 \
	"	.cfi_adjust_cfa_offset -8\n" \
	".endr\n"                      \
	"	ret\n"                       \
	".endm\n"

#endif
