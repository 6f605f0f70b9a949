/* SPDX-License-Identifier: MIT */
/*
 * Interrupts, exceptions and NMIs: from the CPU's frame to a C function, and back.
 *
 *	the CPU -> trap_entry_<vector> (trap.S) -> trap() (trap.c) -> handler[vector]
 *	the CPU -> trap_entry_bp (trap.S) -> trap_breakpoint() (port.c)
 *
 * Every gate turns interrupts off. All run on the stack of what they interrupt, but
 * #DF and #MC. NMIs do too: a handler that runs into an int3 ends in an iretq, which
 * lets the next NMI in, and a stack of its own would then be overwritten. An iretq does not
 * let the next #MC in.
 */
#ifndef KERNEL_TRAP_H
#define KERNEL_TRAP_H

#include "x86.h"

/* What is on the stack. Handlers may change it; the interrupted code goes on with it. */
struct trapframe {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
	uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

typedef void (*trap_handler_t)(struct trapframe *frame);

/* Fill the interrupt table, which all CPUs share. */
void trap_init(void);
/* Load it into this CPU. */
void trap_load(void);

/*
 * Install a handler in C for a vector, and return the one before (NULL: none, a panic).
 * Vectors from 0x20 on get their end-of-interrupt from trap(). Not for VEC_BP: see
 * idt_set().
 */
trap_handler_t trap_set(uint8_t vector, trap_handler_t handler);

/*
 * Install an entry in assembly: the gate of @vector leads there, on the stack @ist
 * (smp.h; 0: the interrupted one). It finds the CPU's frame and nothing else. With
 * idt_get() and idt_restore() a test leaves the gate as it found it. The change is
 * one that other CPUs may see half: make it while they are idle.
 */
struct gate {
	uint64_t word[2];
};
void idt_set(uint8_t vector, void (*entry)(void), unsigned ist);
void idt_set_stack(uint8_t vector, unsigned ist); /* the stack alone */
struct gate idt_get(uint8_t vector);
void idt_restore(uint8_t vector, struct gate gate);

/* The entry of #BP (trap.S), and what it calls (port.c). */
void trap_entry_bp(void);
void trap_breakpoint(struct trapframe *frame, uint64_t ssp);

/* Print a frame and panic: what happens where there is no handler. */
void trap_unexpected(struct trapframe *frame) __attribute__((noreturn));

#endif
