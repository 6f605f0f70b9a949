/* SPDX-License-Identifier: MIT */
/* The laboratory: what its entries of #BP call, and what a scheme does to a frame (lab.h). */
#include "internal.h"

void (*lab_on_trap)(struct trapframe *frame, const struct lab_site *site, bool behind);
_Atomic uint64_t lab_traps, lab_all_traps;

static const struct lab_site *trapped(uintptr_t insn)
{
	for (unsigned place = 0; place < LAB_PLACES; place++) {
		const struct lab_site *site = &lab_sites[lab_scheme->form][place];

		if ((uintptr_t)site->insn == insn && site->armed)
			return site;
	}
	return NULL;
}

void lab_trap(struct trapframe *frame, uint64_t ssp)
{
	const struct lab_site *site = trapped(frame->rip - 1);

	lab_traps += site != NULL;
	lab_all_traps++;
	lab_soft_trap_begins(frame);
	if (site && lab_on_trap)
		lab_on_trap(frame, site, false);
	if (!lab_scheme->trap(frame, site, ssp))
		lab_bad(LAB_UNKNOWN_INT3, 0);
	if (site && lab_on_trap)
		lab_on_trap(frame, site, true);
	lab_soft_trap_ends(frame);
}

void lab_shadow_rip(uint64_t ssp, uint64_t rip)
{
	wrss(ssp + 16, rip);
}

bool lab_resume(struct trapframe *frame, uintptr_t rip, uint64_t ssp)
{
	frame->rip = rip;
	if (ssp)
		lab_shadow_rip(ssp, rip);
	return true;
}

/* The frame moves down by a word, into the gap, and the value takes the word's place. */
void lab_shadow_push(uint64_t ssp, uint64_t value, uint64_t rip)
{
	const uint64_t *word = (const uint64_t *)ssp;
	uint64_t interrupted = word[1] - 8, cs = word[3];

	wrss(interrupted, value);
	wrss(ssp, interrupted);
	wrss(ssp + 8, rip);
	wrss(ssp + 16, cs);
}
