/* SPDX-License-Identifier: MIT */
/*
 * percpu-slots: percpu-nmi, and NMIs have words of their own.
 *
 * Steven Rostedt's form of percpu for the function tracer (LKML 2019-04-30 [L7]): traps in an NMI's
 * handler fill words of their own and resume at a stub of their own, so that they leave those of
 * the interrupted thread alone. (His target is fixed, so that he has one word where this has two,
 * and he has no fix-up; that of percpu-nmi stays here.)
 *
 * Held against it: machine checks (Nicolai Stange, LKML 2019-05-01 [L8]). In the end it was
 * "hard to get right", with lockdep and shadow stacks against it [L5].
 *
 * What the run shows: NMI handlers may go through sites now. Machine checks may not, which have
 * no words of their own; and each further context would need some more. The iretq of a trap in
 * an NMI's handler lets the next NMI in, whose trap fills the same words.
 *
 * percpu-slots-flat is the same where such an NMI makes no calls: as on Linux, whose entry code
 * keeps it until the first one's handler has ended (3f3c8b8c4b2a).
 */
#include "percpu.h"

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site || !lab_in_nmi())
		return percpu_trap(frame, site, ssp);
	this_cpu()->scratch[3] = site->ret;
	this_cpu()->scratch[4] = site->target;
	return lab_resume(frame, (uintptr_t)lab_percpu_slots, ssp);
}

static const struct lab_scheme lab_scheme_percpu_slots = {
	.id = "percpu-slots",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.nmi = percpu_step_back,
	.points = percpu_points,
};
LAB_SCHEME(percpu_slots);

static const struct lab_scheme lab_scheme_percpu_slots_flat = {
	.id = "percpu-slots-flat",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.nmi = percpu_step_back,
	.points = percpu_points,
	.flat = true,
};
LAB_SCHEME(percpu_slots_flat);
