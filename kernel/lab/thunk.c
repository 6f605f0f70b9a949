/* SPDX-License-Identifier: MIT */
/*
 * thunk: return address and target in r10 and r11, resumed at `push r10; jmp *r11`.
 *
 * Proposed by Nadav Amit, and before him by Steven Rostedt (both in LKML 2019-01-11 [L2]). The
 * handler looks the site up and puts what the thunk needs into two registers that an
 * ordinary call may change, so that the state belongs to the thread.
 *
 * Held against it: "how would it work for callee-saved PV ops? In that case there's only one
 * clobbered register to work with (rax)" (Josh Poimboeuf, in [L2]).
 *
 * What the run shows: just that: r10 and r11 are changed in each trap, and no other register.
 * For ordinary callers it survives everything that has to do with interrupts, NMIs and reuse, with
 * nothing masked and nothing shared. With shadow stacks: #CP.
 *
 * thunk-astray is a negative control: r11 holds a target that is neither old nor new.
 */
#include "internal.h"

/* thunk.S */
void lab_thunk(void);
void lab_thunk_jmp(void);

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	frame->r10 = site->ret;
	frame->r11 = site->target;
	return lab_resume(frame, (uintptr_t)lab_thunk, ssp);
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	(void)irqs;
	points->insn[0] = (uintptr_t)lab_thunk;
	points->insn[1] = (uintptr_t)lab_thunk_jmp;
}

static const struct lab_scheme lab_scheme_thunk = {
	.id = "thunk",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
	.clobbers = LAB_R10 | LAB_R11,
};
LAB_SCHEME(thunk);

static bool astray_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!trap(frame, site, ssp))
		return false;
	for (unsigned i = 0; i < LAB_TARGETS; i++)
		if (site->target == lab_targets[i])
			frame->r11 = lab_targets[LAB_TARGETS - 1 - i];
	return true;
}

static const struct lab_scheme lab_scheme_thunk_astray = {
	.id = "thunk-astray",
	.update = lab_poke,
	.trap = astray_trap,
	.entry = lab_entry_plain,
	.points = points,
	.clobbers = LAB_R10 | LAB_R11,
};
LAB_SCHEME(thunk_astray);
