/* SPDX-License-Identifier: MIT */
/* What the schemes share that emulate the call in the handler (gap.c). */
#ifndef KERNEL_LAB_EMULATE_H
#define KERNEL_LAB_EMULATE_H

#include "lab.h"

/* Push @ret on the interrupted stacks and resume at @target; behind lab_entry_gap. True. */
bool lab_emulate_call(struct trapframe *frame, uintptr_t ret, uintptr_t target, uint64_t ssp);

#endif
