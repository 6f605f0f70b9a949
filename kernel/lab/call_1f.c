/* SPDX-License-Identifier: MIT */
/*
 * call-1f: `call 1f; 1: int3`: a real call, and a second trap that corrects it.
 *
 * Proposed by Andy Lutomirski (LKML 2019-04-29 [L3]). The handler fills per-CPU words, clears
 * IF and resumes at a stub; there are two, one for callers with interrupts on, one for others.
 * Its call makes room on the stack, and on the shadow stack, as only a call can; the int3
 * behind it traps again, and the handler puts the site's return address in the place of the
 * stub's, on both stacks, and sets rip to the target and IF by the stub that it came from.
 * Nothing is shifted in the interrupt frame, and no `sti` has a shadow.
 *
 * Held against it: two traps for one call ("twice as slow", [L3], of its sibling
 * `push; int3`). Nothing else was said; it was the answer to what was held against the
 * others.
 *
 * What the run shows: its traps come back right with shadow stacks, and the software's idea of
 * IF (lockdep) stays right, as every change is a trap's. But a call of displacement 0 does not
 * push on the shadow stack, so the stub needs an instruction between the two, and the handler
 * must correct the shadow frame's rip in both traps. Interrupts cannot come in between, NMIs
 * can: the handler of an NMI that goes through a site of its own overwrites the words. That is
 * the words' fault, not the call's: see call-1f-site.
 *
 * call-1f-word is the same with one stub, and IF in a third per-CPU word: which an NMI
 * overwrites too, so that a call can come back with interrupts off.
 *
 * call-1f-site is the same with a stub for each site, never reused. The address of the
 * second int3 says whose call it is, so there are no words to overwrite, IF stays as it
 * is, and an interrupt or an NMI may come in between.
 */
#include "lab.h"

/* A stub, call_1f.S. */
struct stub {
	uint8_t call[6];
	uint8_t int3[2];
};
extern const struct stub lab_call_1f, lab_call_1f_irqs_on, lab_call_1f_sites[];

/* The first trap: on to the stub. */
static void resume_at(struct trapframe *frame, uint64_t ssp, const struct stub *stub)
{
	frame->rip = (uintptr_t)stub->call;
	if (ssp)
		lab_shadow_rip(ssp, frame->rip);
}

/*
 * The second trap, behind the stub's call: the word that it pushed on both stacks becomes
 * @ret, and the thread goes on at @target.
 */
static void correct(struct trapframe *frame, uint64_t ssp, uintptr_t ret, uintptr_t target)
{
	*(uint64_t *)frame->rsp = ret;
	frame->rip = target;
	if (!ssp)
		return;
	wrss(((const uint64_t *)ssp)[1], ret);
	lab_shadow_rip(ssp, frame->rip);
}

static void stub_points(const struct stub *stub, struct lab_points *points)
{
	points->insn[0] = (uintptr_t)stub->call;
	points->insn[1] = (uintptr_t)stub->int3;
}

/* --------------------------------------------------------------- per-CPU words */

static bool is_second_trap(const struct trapframe *frame, const struct stub *stub)
{
	return frame->rip == (uintptr_t)stub->int3 + 1;
}

static void fill_words(const struct lab_site *site)
{
	this_cpu()->scratch[0] = site->ret;
	this_cpu()->scratch[1] = site->target;
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	const uint64_t *word = this_cpu()->scratch;

	if (site) {
		fill_words(site);
		resume_at(frame, ssp,
			  frame->rflags & RFLAGS_IF ? &lab_call_1f_irqs_on : &lab_call_1f);
		frame->rflags &= ~RFLAGS_IF;
		return true;
	}
	if (is_second_trap(frame, &lab_call_1f_irqs_on))
		frame->rflags |= RFLAGS_IF;
	else if (!is_second_trap(frame, &lab_call_1f))
		return false;
	correct(frame, ssp, word[0], word[1]);
	return true;
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	stub_points(irqs ? &lab_call_1f_irqs_on : &lab_call_1f, points);
}

static const struct lab_scheme lab_scheme_call_1f = {
	.id = "call-1f",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
};
LAB_SCHEME(call_1f);

/* ------------------------------------------------------ one stub, and IF in a word */

static bool word_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	uint64_t *word = this_cpu()->scratch;

	if (site) {
		fill_words(site);
		word[2] = frame->rflags & RFLAGS_IF;
		frame->rflags &= ~RFLAGS_IF;
		resume_at(frame, ssp, &lab_call_1f);
		return true;
	}
	if (!is_second_trap(frame, &lab_call_1f))
		return false;
	frame->rflags |= word[2];
	correct(frame, ssp, word[0], word[1]);
	return true;
}

static void word_points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)site;
	(void)irqs;
	stub_points(&lab_call_1f, points);
}

static const struct lab_scheme lab_scheme_call_1f_word = {
	.id = "call-1f-word",
	.update = lab_poke,
	.trap = word_trap,
	.entry = lab_entry_plain,
	.points = word_points,
};
LAB_SCHEME(call_1f_word);

/* -------------------------------------------------------- a stub for each site */

/* Whose the stubs are, in the order of their first update. */
static const struct lab_site *_Atomic owners[16];

static const struct stub *stub_of(const struct lab_site *site)
{
	for (unsigned i = 0; i < ARRAY_SIZE(owners); i++)
		if (owners[i] == site)
			return &lab_call_1f_sites[i];
	return NULL;
}

static void give_stub(const struct lab_site *site)
{
	unsigned i = 0;

	while (owners[i] && owners[i] != site)
		if (++i == ARRAY_SIZE(owners))
			panic("call-1f-site: too many sites");
	owners[i] = site;
}

static void site_update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		give_stub(changes[i].site);
	lab_poke(changes, n);
}

static bool site_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (site) {
		resume_at(frame, ssp, stub_of(site));
		return true;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(owners) && owners[i]; i++) {
		if (!is_second_trap(frame, &lab_call_1f_sites[i]))
			continue;
		correct(frame, ssp, owners[i]->ret, owners[i]->target);
		return true;
	}
	return false;
}

static void site_points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)irqs;
	stub_points(stub_of(site), points);
}

static const struct lab_scheme lab_scheme_call_1f_site = {
	.id = "call-1f-site",
	.update = site_update,
	.trap = site_trap,
	.entry = lab_entry_plain,
	.points = site_points,
};
LAB_SCHEME(call_1f_site);
