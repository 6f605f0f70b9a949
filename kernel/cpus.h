/* SPDX-License-Identifier: MIT */
/* The table of processors: what each has of its own. */
#ifndef KERNEL_CPUS_H
#define KERNEL_CPUS_H

#include <stddef.h>
#include <stdint.h>

#include "x86.h"

#define MAX_CPUS   4
#define STACK_SIZE 65536

/* Stacks of the interrupt stack table. IST_TEST is for tests. */
#define IST_DF   1
#define IST_MC   2
#define IST_TEST 3
#define NR_IST   3

struct tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3;
	uint16_t io_map;
} __attribute__((packed));

/* One for each CPU, at %gs. */
struct cpu {
	struct cpu *self;    /* at %gs:0 */
	uint64_t scratch[7]; /* at %gs:8 and on, for the assembly of tests */
	uint64_t in_stub;    /* at %gs:64: how many of the tracer's stubs it is in (ftrace.c) */
	uint32_t id;         /* 0, the boot processor, 1, ...; also the APIC's number */
	_Atomic uint32_t is_up;
	_Atomic uint64_t synced; /* the last core sync that it has answered */
	_Atomic bool tracing;    /* a callback of the tracer runs (ftrace.h) */

	/* smp_start(): ordinary context. */
	void (*_Atomic work)(void *arg);
	void *work_arg;

	/* Interrupts and traps taken, by vector. */
	_Atomic uint64_t taken[256];

	uint64_t gdt[5];
	struct tss tss;
	uint8_t ist[NR_IST][8192] __attribute__((aligned(16)));
	uint8_t stack[STACK_SIZE] __attribute__((aligned(16)));
};

extern struct cpu cpus[MAX_CPUS];
extern unsigned nr_cpus; /* that are up */

static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__("movq %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

/*
 * An interrupt is a context of its own, in which no callback of a tracer runs: set that aside,
 * and put it back. trap() does.
 */
bool cpu_context_begin(struct cpu *cpu);
void cpu_context_end(struct cpu *cpu, bool before);

/* cpu.c: this CPU's segments, task state and interrupt table. */
void cpu_init(struct cpu *cpu);

#endif
