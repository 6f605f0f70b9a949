/* SPDX-License-Identifier: MIT */
/*
 * prefix: a one-byte prefix in front of the call is what becomes the int3.
 *
 * Proposed by Linus Torvalds (quoted in Lutomirski, LKML 2018-11-29 [L1]): where the caller is
 * inline assembly, put a prefix that does nothing, a cs override, in front of the `call`. The
 * int3 takes its place alone. The handler updates the call behind it in place, and returns to
 * "the next instruction byte", which is the call without its prefix, and where rip points
 * anyway: nothing in the frame changes, nothing is emulated, and the CPU itself makes the call.
 * The int3 stays until all CPUs have been interrupted.
 *
 * Held against it (Andy Lutomirski, [L1]): the calls have to be inline assembly, with
 * much text around them, and what they save may not be what the function expects. It also
 * costs a byte in each site.
 *
 * What the run shows: shadow stacks, registers and NMIs do not matter to it, as nothing is
 * emulated. But the handler lets the thread out of the int3's protection before it has made
 * the call. If an interrupt holds it right there (hazard `again`), the next poke of the site
 * writes to the very call that it will execute; where that crosses a cache line and half of
 * it has been written, the thread calls what neither displacement means. All traps of one
 * poke do no harm to each other: they all write the same.
 */
#include "store.h"

#define CS_PREFIX 0x2e
#define INT3      0xcc

static void write_all(const struct lab_change *changes, unsigned n, uint8_t first)
{
	for (unsigned i = 0; i < n; i++)
		port_write_text(changes[i].site->insn, &first, 1);
}

static void update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		changes[i].site->target = changes[i].target;
		changes[i].site->armed = true;
	}
	write_all(changes, n, INT3);
	core_sync();
	lab_step(1);
	for (unsigned i = 0; i < n; i++)
		lab_store_displacement(changes[i].site->insn + 1, changes[i].target, lab_half_step);
	core_sync();
	lab_step(2);
	write_all(changes, n, CS_PREFIX);
	core_sync();
	for (unsigned i = 0; i < n; i++)
		changes[i].site->armed = false;
	lab_step(3);
}

static bool trap(struct trapframe *frame, const struct lab_site *site, uint64_t ssp)
{
	(void)ssp;
	if (!site)
		return false;
	/* A pause alone: a trap handler answers no core sync. */
	lab_store_displacement((uint8_t *)frame->rip, site->target, pause);
	return true;
}

static void points(const struct lab_site *site, bool irqs, struct lab_points *points)
{
	(void)irqs;
	points->insn[0] = (uintptr_t)site->insn + 1;
}

static const struct lab_scheme lab_scheme_prefix = {
	.id = "prefix",
	.form = LAB_PREFIX,
	.update = update,
	.trap = trap,
	.entry = lab_entry_plain,
	.points = points,
};
LAB_SCHEME(prefix);
