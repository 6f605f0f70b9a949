/* SPDX-License-Identifier: MIT */
/* Processors are started, and given work. (And, for tests: all that has to do with them.) */
#ifndef KERNEL_SMP_H
#define KERNEL_SMP_H

#include <stddef.h>

#include "apic.h"
#include "core_sync.h"
#include "cpus.h"
#include "kernel.h"
#include "x86.h"

/* Start CPUs 1 to @n - 1, with the page tables @cr3 (paging_init()). */
void smp_init(unsigned n, uint64_t cr3);

/* Run @f on CPU @id, which is idle, in ordinary context with interrupts on. Not CPU 0. */
void smp_start(unsigned id, void (*f)(void *arg), void *arg);
/* Wait until all CPUs are idle again. */
void smp_wait(void);
/* Run @f on every CPU, this one included, and wait for all. */
void smp_run(void (*f)(void *arg), void *arg);
/* Interrupt every other CPU, run @f in the interrupt, and here; wait for all. Interrupts on. */
void smp_call(void (*f)(void *arg), void *arg);

#endif
