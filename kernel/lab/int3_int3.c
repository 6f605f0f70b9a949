/* SPDX-License-Identifier: MIT */
/*
 * int3-int3: `push %gs:ret; int3`: the second trap sets rip and flags.
 *
 * Proposed by Andy Lutomirski (LKML 2019-04-29 [L3], his third solution, the one he liked
 * best): no `sti`, so no shadow. The handler of the first trap clears IF; that of the second
 * jumps to the target and restores IF at once, by its iretq. (From a third per-CPU word, which is
 * ours: he has it "adjust regs->ip and regs->flags as appropriate".)
 *
 * Held against it: "it's twice as slow" (its author); the shadow stack [L3].
 *
 * What the run shows: interrupts never come in between, and an NMI or a #DB with an
 * interrupt behind it changes nothing, since IF is still clear. An NMI whose handler goes
 * through a site of its own overwrites the words, as in all schemes with one pair of them, and
 * the third as well. With shadow stacks: #CP.
 */
#include "percpu.h"

/* int3_int3.S */
void lab_int3_int3(void);
void lab_int3_int3_int3(void);

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	uint64_t *scratch = this_cpu()->scratch;

	if (site) {
		percpu_fill(site);
		scratch[2] = frame->rflags & RFLAGS_IF;
		frame->rflags &= ~RFLAGS_IF;
		return lab_resume(frame, (uintptr_t)lab_int3_int3, ssp);
	}
	if (frame->rip - 1 != (uintptr_t)lab_int3_int3_int3)
		return false;
	frame->rflags |= scratch[2];
	return lab_resume(frame, scratch[1], ssp);
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	(void)irqs;
	points->insn[0] = (uintptr_t)lab_int3_int3;
	points->insn[1] = (uintptr_t)lab_int3_int3_int3;
}

static const struct lab_scheme lab_scheme_int3_int3 = {
	.id = "int3-int3",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
};
LAB_SCHEME(int3_int3);
