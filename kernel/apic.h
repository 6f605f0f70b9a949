/* SPDX-License-Identifier: MIT */
/* The local APIC (apic.c): interrupts between CPUs, NMIs, the timer; and the vectors. */
#ifndef KERNEL_APIC_H
#define KERNEL_APIC_H

#include <stdbool.h>
#include <stdint.h>

/* Interrupt vectors. From VEC_TEST to 0x9f they are the tests' own. */
#define VEC_TIMER    0x40
#define VEC_SYNC     0x41 /* core sync (core_sync.c) */
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
