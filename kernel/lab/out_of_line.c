/* SPDX-License-Identifier: MIT */
/*
 * out-of-line: each site calls the key's trampoline for ever; only its `jmp` is poked.
 *
 * What there was before inline static calls: the out-of-line version, which
 * Lutomirski, LKML 2018-11-29 [L1], calls "a call to the out of line jmp trampoline", and where
 * his sites fall back to it. The call of the site is a real one, never changed. A thread that
 * meets the int3 in the trampoline has its return address on both stacks already; the handler
 * sets rip, as in any other jump, and is done: no stub, no slot, no gap.
 *
 * Held against it: one more jump in every call, for ever (the reason for all the rest of
 * the debate).
 *
 * What the run shows: nothing hits it. There is nowhere to catch a thread between the trap
 * and the target. (The laboratory puts the trampolines themselves across a line and a page,
 * which a real one need not be; the int3 sees to that.) The one thing to do for shadow
 * stacks is rip in the shadow frame, which iretq compares.
 */
#include "lab.h"

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	frame->rip = site->target;
	if (ssp)
		lab_shadow_rip(ssp, frame->rip);
	return true;
}

static const struct lab_scheme lab_scheme_out_of_line = {
	.id = "out-of-line",
	.form = LAB_TRAMPOLINE,
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
};
LAB_SCHEME(out_of_line);
