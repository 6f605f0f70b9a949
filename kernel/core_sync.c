/* SPDX-License-Identifier: MIT */
/* Core sync by an interrupt to every CPU (core_sync.h). */
#include "core_sync.h"

#include "apic.h"
#include "cpus.h"

/* The number of the last one that was asked for. */
static _Atomic uint64_t sync_wanted;

/*
 * The serialising instruction stands between the look at what is wanted and the answer,
 * so it is behind every write that was made before that was wanted. Interrupts off: two
 * answers of one CPU cannot overtake each other.
 */
void core_sync_answer(void)
{
	uint64_t wanted = sync_wanted;

	if (this_cpu()->synced == wanted)
		return;
	serialise();
	this_cpu()->synced = wanted;
}

void core_sync_interrupt(struct trapframe *frame)
{
	(void)frame;
	core_sync_answer();
}

/*
 * The caller waits with its own interrupts as they were; if they are off it answers
 * others' syncs itself (cpu_relax()), so two CPUs that sync at once do not wait for
 * each other for ever.
 */
void core_sync(void)
{
	uint64_t wanted = ++sync_wanted;

	apic_ipi_others(VEC_SYNC);
	serialise();
	for (unsigned i = 0; i < nr_cpus; i++)
		while (&cpus[i] != this_cpu() && cpus[i].synced < wanted)
			cpu_relax();
}

uint64_t core_syncs(void)
{
	return sync_wanted;
}

void cpu_relax(void)
{
	pause();
	if (!irqs_on())
		core_sync_answer();
}
