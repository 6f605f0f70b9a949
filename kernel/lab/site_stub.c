/* SPDX-License-Identifier: MIT */
/*
 * site-stub: a generated `push $ret; jmp target` for each site of an update.
 *
 * Proposed by Linus Torvalds (quoted in Amit, LKML 2019-01-11 [L2]): the handler only sets rip
 * to the stub. Stubs are generated before the poke and reused by the next one. He saw the trap
 * in it himself: a thread that is preempted in a stub comes back to another's. Hence a second
 * stub, with a `sti` in front of its `jmp`; for callers with interrupts on the handler clears
 * IF and chooses that one. Nadav Amit had proposed a patched trampoline with sti and jmp [L2].
 *
 * Held against it: the reuse (by its author, see above). Of percpu, which has the same `sti`:
 * an NMI in its shadow and an interrupt behind it let a thread be preempted in the stub all the
 * same; the shadow stack (Lutomirski, LKML 2019-04-29 [L3]).
 *
 * What the run shows: a stub belongs to a site, so handlers that trap at other sites do no
 * harm, not even in an NMI, which percpu does not survive. With both stubs a preempted
 * thread is never in one. With a #DB or an NMI in the shadow it is, and goes where the
 * second poke's site goes. With shadow stacks: #CP.
 *
 * site-stub-nosti is the first thought, and a negative control: one stub, interrupts stay
 * on. Any preemption in it fails once the stub is reused.
 */
#include "internal.h"

/* The three versions of a stub; site_stub.S has their form. */
struct stub {
	uint8_t plain[16];
	uint8_t sti[16];
	uint8_t nmi[32];
};
extern const struct stub lab_site_stub;
extern const uint8_t lab_site_stub_end[], lab_site_stub_sti_end[], lab_site_stub_nmi_end[];

/* By the number of a site in its update: that is what reuses them. */
static struct stub *stub_of[LAB_PLACES];

static unsigned place_of(const struct lab_site *site)
{
	return (unsigned)(site - lab_sites[LAB_CALL]);
}

/* Make a version, whose form begins with `push $imm32` and ends with `jmp`. */
static void generate(uint8_t *to, const uint8_t *form, const uint8_t *end,
		     const struct lab_change *c)
{
	uint8_t bytes[32];
	size_t n = (size_t)(end - form);
	uint32_t ret = (uint32_t)c->site->ret;

	memcpy(bytes, form, n);
	memcpy(bytes + 1, &ret, sizeof(ret));
	lab_encode(bytes + n - 5, 0xe9, to + n - 5, c->target);
	port_write_text(to, bytes, n);
}

/*
 * No core sync behind it: taking the #BP serialises [L2]. The writes cannot tear for
 * a thread that is in a stub on this CPU, and on others none is, but for the hazards.
 */
static void update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct stub *stub = (struct stub *)lab_stubs + i;

		stub_of[place_of(changes[i].site)] = stub;
		generate(stub->plain, lab_site_stub.plain, lab_site_stub_end, &changes[i]);
		generate(stub->sti, lab_site_stub.sti, lab_site_stub_sti_end, &changes[i]);
		generate(stub->nmi, lab_site_stub.nmi, lab_site_stub_nmi_end, &changes[i]);
	}
	lab_poke(changes, n);
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	const struct stub *stub;

	if (!site)
		return false;
	stub = stub_of[place_of(site)];
	if (!(frame->rflags & RFLAGS_IF))
		return lab_resume(frame, (uintptr_t)stub->plain, ssp);
	frame->rflags &= ~RFLAGS_IF;
	return lab_resume(frame, (uintptr_t)(lab_nmi_stub ? stub->nmi : stub->sti), ssp);
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	const struct stub *stub = stub_of[place_of(site)];

	if (!irqs) {
		points->insn[0] = (uintptr_t)stub->plain;
		points->insn[1] = points->insn[0] + 5;
	} else if (lab_nmi_stub) {
		points->insn[0] = (uintptr_t)stub->nmi;
		points->shadow = points->insn[0] +
				 (uintptr_t)(lab_site_stub_nmi_end - lab_site_stub.nmi) - 5;
	} else {
		points->insn[0] = (uintptr_t)stub->sti;
		points->insn[1] = points->insn[0] + 5;
		points->shadow = points->insn[0] + 6;
	}
}

static const struct lab_scheme lab_scheme_site_stub = {
	.id = "site-stub",
	.update = update,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
};
LAB_SCHEME(site_stub);

/* ---------------------------------------------------------- without the second stub */

static bool nosti_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	if (!site)
		return false;
	return lab_resume(frame, (uintptr_t)stub_of[place_of(site)]->plain, ssp);
}

static void nosti_points(const struct lab_site *site, bool irqs, struct lab_points *p)
{
	(void)irqs;
	points(site, false, p);
}

static const struct lab_scheme lab_scheme_site_stub_nosti = {
	.id = "site-stub-nosti",
	.update = update,
	.trap = nosti_trap,
	.entry = lab_entry_plain,
	.points = nosti_points,
};
LAB_SCHEME(site_stub_nosti);
