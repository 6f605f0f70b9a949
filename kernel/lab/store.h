/* SPDX-License-Identifier: MIT */
/* What the schemes share that write to a call which may be executed meanwhile (store.c). */
#ifndef KERNEL_LAB_STORE_H
#define KERNEL_LAB_STORE_H

#include "lab.h"

/* Whether the @len bytes at @at lie in more than one cache line. */
bool lab_crosses_line(const uint8_t *at, size_t len);

/*
 * Change the displacement of the e8 or e9 rel32 at @insn. Any context. @half is called
 * between the two stores, where the displacement crosses a cache line.
 */
void lab_store_displacement(uint8_t *insn, uintptr_t target, void (*half)(void));

/* For @half, in an update: lets other CPUs run, and calls lab_step(0). */
void lab_half_step(void);

#endif
