/* SPDX-License-Identifier: MIT */
/*
 * retpoline: per-CPU words, and a stub that goes to the target by a `ret`.
 *
 * Proposed by Jann Horn (quoted in Rostedt, LKML 2020-02-17 [L5]): the handler keeps return
 * address and target in per-CPU words, clears IF and resumes at a trampoline in the style of a
 * retpoline, which pushes both and returns to the target; so nothing has to be allocated,
 * unlike the stub for each site [L2]. The quotation breaks off where the code begins, so the
 * stub here is ours. As in percpu there are two, one of them with a `sti` before its last
 * instruction.
 *
 * Held against it: Linus Torvalds had proposed nearly the same for function tracing; it
 * was hard to get right and caused havoc with lockdep and shadow stacks (Steven Rostedt,
 * in [L5]).
 *
 * What the run shows: with shadow stacks #CP, at the stub's `ret`. But the shadow of `sti`,
 * the weak point of percpu, does it no harm: by then both words have been pushed, and an
 * NMI with an interrupt behind it finds them used. What is left is an NMI before that: if
 * its handler goes through a site of its own, the words are overwritten.
 */
#include "percpu.h"

/* retpoline.S. */
void lab_retpoline(void);
void lab_retpoline_target(void);
void lab_retpoline_sti(void);
void lab_retpoline_sti_target(void);
void lab_retpoline_sti_ret(void);
void lab_retpoline_nmi(void);
void lab_retpoline_nmi_target(void);
void lab_retpoline_nmi_ret(void);

static const struct lab_points without_sti = {
	.insn = {(uintptr_t)lab_retpoline, (uintptr_t)lab_retpoline_target},
};
static const struct lab_points with_sti = {
	.insn = {(uintptr_t)lab_retpoline_sti, (uintptr_t)lab_retpoline_sti_target},
	.shadow = (uintptr_t)lab_retpoline_sti_ret,
};
static const struct lab_points with_nmi = {
	.insn = {(uintptr_t)lab_retpoline_nmi, (uintptr_t)lab_retpoline_nmi_target},
	.shadow = (uintptr_t)lab_retpoline_nmi_ret,
};

/* The stub that a trap leads to: where threads can be caught in it. */
static const struct lab_points *stub(bool irqs)
{
	if (!irqs)
		return &without_sti;
	return lab_nmi_stub ? &with_nmi : &with_sti;
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	*points = *stub(irqs);
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	percpu_fill(site);
	frame->rip = stub(frame->rflags & RFLAGS_IF)->insn[0];
	frame->rflags &= ~RFLAGS_IF;
	if (ssp)
		lab_shadow_rip(ssp, frame->rip);
	return true;
}

static const struct lab_scheme lab_scheme_retpoline = {
	.id = "retpoline",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
};
LAB_SCHEME(retpoline);
