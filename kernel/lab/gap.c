/* SPDX-License-Identifier: MIT */
/*
 * gap: shift the interrupt frame, and push the return address in the place it leaves.
 *
 * Preferred by Josh Poimboeuf in his mail of 2019-01-10, quoted in Rostedt, LKML 2020-02-17
 * [L5] ("shifting the iret frame by 16 bytes in the #DB entry code"), and what the thread of
 * Torvalds, LKML 2019-05-06 [L4], discusses; the Linux kernel has it since 5.2. The entry of
 * #BP copies the CPU's frame lower. The handler writes the return address below the interrupted
 * stack and sets rip to the target, so that iretq resumes as a call would have. With shadow
 * stacks the shadow frame moves down likewise.
 *
 * Held against it: "others hated it" [L5], namely entry code that shifts frames; "odd
 * emulation", "adjust the stack in the BP handler" [L2]; the shadow stack [L3].
 *
 * What the run shows: there is no instruction at which a thread could be caught between the
 * trap and the target, so no interrupt, NMI or second poke finds it half way. It survives
 * every hazard, shadow stacks too.
 *
 * gap-missing is the negative control: the same handler behind an entry that makes no gap.
 * The return address lands on the frame's own ss, and iretq faults. gap-static keeps return
 * address and target in static words until the end of the entry: an NMI whose handler traps
 * overwrites them. gap-word keeps the target in one at a single instruction. gap-carry comes back
 * with CF set.
 */
#include "emulate.h"

bool lab_emulate_call(struct trapframe *frame, uintptr_t ret, uintptr_t target, uint64_t ssp)
{
	frame->rsp -= 8;
	*(uint64_t *)frame->rsp = ret;
	frame->rip = target;
	if (ssp)
		lab_shadow_push(ssp, ret, target);
	return true;
}

static bool gap_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	return site && lab_emulate_call(frame, site->ret, site->target, ssp);
}

static const struct lab_scheme lab_scheme_gap = {
	.id = "gap",
	.update = lab_poke,
	.trap = gap_trap,
	.entry = lab_entry_gap,
};
LAB_SCHEME(gap);

static bool gapless_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	(void)ssp;
	return gap_trap(frame, site, 0);
}

static const struct lab_scheme lab_scheme_gap_missing = {
	.id = "gap-missing",
	.update = lab_poke,
	.trap = gapless_trap,
	.entry = lab_entry_plain,
};
LAB_SCHEME(gap_missing);

/* Of lab_entry_gap_static (gap.S): return address, target. */
extern uint64_t lab_static_words[2];
uint64_t lab_static_words[2];
void lab_entry_gap_static(void);

static bool static_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	(void)ssp;
	if (!site)
		return false;
	lab_static_words[0] = site->ret;
	lab_static_words[1] = site->target;
	frame->rsp -= 8;
	return true;
}

static const struct lab_scheme lab_scheme_gap_static = {
	.id = "gap-static",
	.update = lab_poke,
	.trap = static_trap,
	.entry = lab_entry_gap_static,
};
LAB_SCHEME(gap_static);

void lab_entry_gap_word(void);

static const struct lab_scheme lab_scheme_gap_word = {
	.id = "gap-word",
	.update = lab_poke,
	.trap = gap_trap,
	.entry = lab_entry_gap_word,
};
LAB_SCHEME(gap_word);

static bool carry_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	frame->rflags |= RFLAGS_CF;
	return gap_trap(frame, site, ssp);
}

static const struct lab_scheme lab_scheme_gap_carry = {
	.id = "gap-carry",
	.update = lab_poke,
	.trap = carry_trap,
	.entry = lab_entry_gap,
};
LAB_SCHEME(gap_carry);
