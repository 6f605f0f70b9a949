/* SPDX-License-Identifier: MIT */
/*
 * percpu: `push %gs:ret; jmp *%gs:target`.
 *
 * Proposed by Linus Torvalds in the mail that Lutomirski, LKML 2019-04-29 [L3], answers (and
 * by Jann Horn in the one that Rostedt, LKML 2020-02-17 [L5], answers, as a retpoline). The
 * handler fills two per-CPU words, clears IF and resumes at a stub; there are two, and the one
 * for callers with interrupts on has a `sti` in front of the `jmp`, whose shadow of one
 * instruction keeps interrupts out until the words have been used.
 *
 * Held against it: an NMI in that shadow ends it, and an interrupt right behind the NMI
 * finds interrupts on and the words still in use (Andy Lutomirski, [L3]). The `ret`
 * has no partner on the shadow stack [L3, L5]. It "caused havoc with utilities like
 * lockdep" [L5].
 *
 * What the run shows: an interrupt that waits for the `sti` is held back each time. With
 * an NMI or a machine check (QEMU) or a #DB (both) in the shadow, and an interrupt behind it
 * whose handler takes a trap of its own, the words are overwritten, and the call reaches the
 * handler's target. With shadow stacks: #CP.
 *
 * percpu-masked is the first of Lutomirski's three solutions [L3]: leave it so, and assume that
 * all CPUs, "and all relevant hypervisors", mask NMIs in the shadow or return from them with
 * interrupts masked for one instruction, "ditto for MCE"; "too optimistic", he says. The code is
 * percpu's; what the row asks is whether the assumption holds: here not on QEMU, which admits
 * NMIs and machine checks there, nor for #DB on either.
 *
 * percpu-nosti is the negative control: interrupts stay on, and any interrupt in the stub
 * whose handler traps does the same.
 */
#include "percpu.h"

void percpu_fill(const struct lab_site *site)
{
	this_cpu()->scratch[0] = site->ret;
	this_cpu()->scratch[1] = site->target;
}

bool percpu_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	percpu_fill(site);
	if (!(frame->rflags & RFLAGS_IF))
		return lab_resume(frame, (uintptr_t)lab_percpu, ssp);
	frame->rflags &= ~RFLAGS_IF;
	return lab_resume(frame, (uintptr_t)(lab_nmi_stub ? lab_percpu_nmi : lab_percpu_sti), ssp);
}

void percpu_points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	points->insn[0] = (uintptr_t)(!irqs          ? lab_percpu
				      : lab_nmi_stub ? lab_percpu_nmi
						     : lab_percpu_sti);
	if (irqs)
		points->shadow =
			(uintptr_t)(lab_nmi_stub ? lab_percpu_nmi_jmp : lab_percpu_sti_jmp);
	else
		points->insn[1] = (uintptr_t)lab_percpu_jmp;
}

static const struct lab_scheme lab_scheme_percpu = {
	.id = "percpu",
	.update = lab_poke,
	.trap = percpu_trap,
	.entry = lab_entry_plain,
	.points = percpu_points,
};
LAB_SCHEME(percpu);

/* ------------------------------------------------------------- without the sti */

static bool nosti_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	percpu_fill(site);
	return lab_resume(frame, (uintptr_t)lab_percpu, ssp);
}

static void nosti_points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)irqs;
	percpu_points(site, false, points);
}

static const struct lab_scheme lab_scheme_percpu_nosti = {
	.id = "percpu-nosti",
	.update = lab_poke,
	.trap = nosti_trap,
	.entry = lab_entry_plain,
	.points = nosti_points,
};
LAB_SCHEME(percpu_nosti);

static const struct lab_scheme lab_scheme_percpu_masked = {
	.id = "percpu-masked",
	.update = lab_poke,
	.trap = percpu_trap,
	.entry = lab_entry_plain,
	.points = percpu_points,
};
LAB_SCHEME(percpu_masked);
