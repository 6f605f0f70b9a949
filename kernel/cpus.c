/* SPDX-License-Identifier: MIT */
/* The table of processors (cpus.h). */
#include "cpus.h"

struct cpu cpus[MAX_CPUS] __attribute__((aligned(64)));
unsigned nr_cpus = 1;

bool cpu_context_begin(struct cpu *cpu)
{
	bool before = cpu->tracing;

	cpu->tracing = false;
	return before;
}

void cpu_context_end(struct cpu *cpu, bool before)
{
	cpu->tracing = before;
}
