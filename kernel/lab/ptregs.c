/* SPDX-License-Identifier: MIT */
/*
 * ptregs: return through a copy of the registers.
 *
 * Proposed by Andy Lutomirski (LKML 2018-11-29 [L1]). The handler copies the whole register
 * frame to its own stack, out of the way; writes the return address below the interrupted stack
 * pointer, where it may destroy a part of the frame that the CPU pushed ("may clobber old regs,
 * but so what?"); and never returns to the entry that called it: it points rsp to the copy and
 * takes the way out from there. So a call is emulated without a gap in the entry: the cost
 * falls on this trap alone, and not on every #BP.
 *
 * Held against it: "it's ugly" (its proposer). Whatever the entry wants to do on its way
 * out is left out.
 *
 * What the run shows: it survives whatever gap survives, for the same reason: behind the
 * iretq the call has been made, and there is no stub or slot to be caught in. With shadow
 * stacks it ends in #CP as proposed, at the iretq: the handler's own return addresses still
 * lie on the shadow stack.
 *
 * ptregs-shadow does the same on the shadow stack: a copy of the shadow frame one word
 * lower, where the handler's return address was that nobody will use; the site's return
 * address into the word that this makes free; and incssp to the copy. It survives.
 *
 * ptregs-static is a negative control: the copy lies in static memory, and an NMI whose handler
 * traps overwrites it.
 */
#include "internal.h"

/* ptregs.S. */
void lab_return_to_alternate_ptregs(const struct trapframe *copy, uint64_t ssp)
	__attribute__((noreturn));

static void write_copy(struct trapframe *copy, const struct trapframe *frame,
		       const struct lab_site *site)
{
	*copy = *frame;
	copy->rip = site->target;
	copy->rsp -= 8;
}

static __attribute__((noreturn)) void jump_to_ptregs(struct trapframe *copy,
						     const struct lab_site *site, uint64_t ssp)
{
	uintptr_t ret = site->ret;

	/* The copy comes first: the word may be in the original. */
	__asm__ volatile("" : : : "memory");
	*(volatile uint64_t *)copy->rsp = ret;
	if (ssp)
		lab_shadow_push(ssp, ret, copy->rip);
	/* What lab_trap() would do behind this, if it came back there. */
	if (lab_on_trap)
		lab_on_trap(copy, site, true);
	lab_soft_trap_ends(copy);
	lab_return_to_alternate_ptregs(copy, ssp);
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	struct trapframe copy;

	(void)ssp;
	if (!site)
		return false;
	write_copy(&copy, frame, site);
	jump_to_ptregs(&copy, site, 0);
}

static const struct lab_scheme lab_scheme_ptregs = {
	.id = "ptregs",
	.update = lab_poke,
	.trap = trap,
	.entry = lab_entry_plain,
};
LAB_SCHEME(ptregs);

static bool shadow_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	struct trapframe copy;

	if (!site)
		return false;
	write_copy(&copy, frame, site);
	jump_to_ptregs(&copy, site, ssp);
}

static const struct lab_scheme lab_scheme_ptregs_shadow = {
	.id = "ptregs-shadow",
	.update = lab_poke,
	.trap = shadow_trap,
	.entry = lab_entry_plain,
};
LAB_SCHEME(ptregs_shadow);

/* (Back on the stack at the end: on its way out the stack pointer is in the copy.) */
static bool static_trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	static struct trapframe kept;
	struct trapframe copy;

	(void)ssp;
	if (!site)
		return false;
	write_copy(&kept, frame, site);
	if (lab_on_trap)
		lab_on_trap(frame, NULL, true);
	copy = kept;
	jump_to_ptregs(&copy, site, 0);
}

static const struct lab_scheme lab_scheme_ptregs_static = {
	.id = "ptregs-static",
	.update = lab_poke,
	.trap = static_trap,
	.entry = lab_entry_plain,
	.no_storm = true,
};
LAB_SCHEME(ptregs_static);
