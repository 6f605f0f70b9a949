/* SPDX-License-Identifier: MIT */
/* What the schemes with per-CPU words share (percpu.c). */
#ifndef KERNEL_LAB_PERCPU_H
#define KERNEL_LAB_PERCPU_H

#include "lab.h"

/* percpu.S. */
void lab_percpu_slots(void);
void lab_percpu(void);
void lab_percpu_jmp(void);
void lab_percpu_sti(void);
void lab_percpu_sti_jmp(void);
void lab_percpu_nmi(void);
void lab_percpu_nmi_jmp(void);

/* %gs:8 = return address, %gs:16 = target. */
void percpu_fill(const struct lab_site *site);
bool percpu_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp);
/* For lab_scheme.nmi: back out of the shadow of the sti (percpu_nmi.c). */
void percpu_step_back(struct trapframe *frame);
void percpu_points(const struct lab_site *site, bool irqs, struct lab_points *points);

#endif
