/* SPDX-License-Identifier: MIT */
/*
 * The laboratory: what software knows of its own context because its handlers keep count: whether
 * interrupts are on, as lockdep does, and whether this is an NMI's handler (lab.h).
 */
#include "internal.h"

uint32_t lab_nmis[MAX_CPUS];

bool lab_in_nmi(void)
{
	return lab_nmis[this_cpu()->id];
}

/* At %gs:56: 0 or 1; with bit 1 once it was found wrong. */
static uint64_t *soft(void)
{
	return &this_cpu()->scratch[6];
}

void lab_soft_set(bool irqs)
{
	*soft() = irqs;
}

void lab_soft_trap_begins(const struct trapframe *frame)
{
	bool irqs = frame->rflags & RFLAGS_IF;

	*soft() = *soft() == irqs ? 0 : 2;
}

/* (An exit to where interrupts are off has nothing to say.) */
void lab_soft_trap_ends(const struct trapframe *frame)
{
	if (frame->rflags & RFLAGS_IF)
		*soft() |= 1;
}
