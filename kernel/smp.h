/* SPDX-License-Identifier: MIT */
/*
 * Processors: what each has of its own, how they are started, given work, and
 * interrupted.
 */
#ifndef KERNEL_SMP_H
#define KERNEL_SMP_H

#include <stddef.h>

#include "kernel.h"
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

/* ---------------------------------------------------------------------- cpu.c */

/* This CPU's segments, task state and interrupt table. */
void cpu_init(struct cpu *cpu);

/* ---------------------------------------------------------------------- smp.c */

/* Start CPUs 1 to @n - 1, with the page tables @cr3 (paging_init()). */
void smp_init(unsigned n, uint64_t cr3);

/*
 * What every loop that waits for another CPU has in its body: a pause (QEMU with one
 * thread switches CPUs there and nowhere else), and an answer to a core sync that is
 * waiting for this CPU while its interrupts are off. Not in an NMI.
 */
void cpu_relax(void);

/* Run @f on CPU @id, which is idle, in ordinary context with interrupts on. Not CPU 0. */
void smp_start(unsigned id, void (*f)(void *arg), void *arg);
/* Wait until all CPUs are idle again. */
void smp_wait(void);
/* Run @f on every CPU, this one included, and wait for all. */
void smp_run(void (*f)(void *arg), void *arg);
/* Interrupt every other CPU, run @f in the interrupt, and here; wait for all. Interrupts on. */
void smp_call(void (*f)(void *arg), void *arg);

/* --------------------------------------------------------------------- apic.c */

/* Interrupt vectors. From VEC_TEST to 0x9f they are the tests' own. */
#define VEC_TIMER    0x40
#define VEC_SYNC     0x41 /* core sync (port.c) */
#define VEC_CALL     0x42 /* smp_call() */
#define VEC_FTRACE   0x43 /* who is in a stub of the tracer (ftrace.c) */
#define VEC_TEST     0x50
#define VEC_SPURIOUS 0xff

void apic_init(void);
void apic_eoi(void);
/* Interrupt CPU @id; this one too. Any context, NMIs included. */
void apic_ipi(unsigned id, uint8_t vector);
void apic_ipi_others(uint8_t vector);
void apic_nmi(unsigned id);
void apic_nmi_others(void);
/* INIT and STARTUP, for smp.c. @page: number of the page to start in. */
void apic_start(unsigned id, uint8_t page);
/* VEC_TIMER each @count ticks of this CPU's timer (bus clock / 16), or once; 0: off. */
void apic_timer(uint32_t count, bool periodic);
/*
 * Once, in @count ticks. @nmi: as an NMI, if this APIC can do that. It is not in the
 * manual; QEMU's can, Bochs's sends VEC_TIMER all the same.
 */
void apic_timer_once(uint32_t count, bool nmi);
/* Whether it has counted down. */
bool apic_timer_is_over(void);

#endif
