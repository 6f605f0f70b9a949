/* SPDX-License-Identifier: MIT */
/* Core sync: every CPU executes a serialising instruction, and says so. */
#ifndef KERNEL_CORE_SYNC_H
#define KERNEL_CORE_SYNC_H

#include <stdint.h>

struct trapframe;

/*
 * Every CPU, this one included, has executed a serialising instruction behind this call's
 * beginning when it returns. Not in an NMI.
 */
void core_sync(void);

/* Answer the one that waits for this CPU, if one does. Interrupts off. */
void core_sync_answer(void);

/* The handler of VEC_SYNC. */
void core_sync_interrupt(struct trapframe *frame);

/* How many there have been. */
uint64_t core_syncs(void);

/*
 * What every loop that waits for another CPU has in its body: a pause (QEMU with one
 * thread switches CPUs there and nowhere else), and an answer to a core sync that is
 * waiting for this CPU while its interrupts are off. Not in an NMI.
 */
void cpu_relax(void);

#endif
