/* SPDX-License-Identifier: MIT */
/*
 * atomic: one store to the call where it lies in one cache line; else the trampoline.
 *
 * Proposed by Andy Lutomirski (LKML 2018-11-29 [L1]), with Linus Torvalds's consent (patch
 * notes in LKML 2020-02-17 [L5]); version 3 of Josh Poimboeuf's patches did this. A call
 * that does not cross a cache line is changed by one store of its displacement, then all CPUs
 * are interrupted. A call that does goes on calling the out-of-line trampoline, whose `jmp` is
 * aligned, and is changed by one store likewise. No int3, no trap, no emulation.
 *
 * Held against it: sites that cross a line stay slow for ever [L5]. And it needs a store
 * within a line to be seen whole by instruction fetch, of which there are no "very strict
 * guarantees" as there are for data (Torvalds, LKML 2019-05-06 [L4]).
 *
 * What the run shows: no hazard of a trap can hit it, and sites across a line or a page call
 * the right target at each moment. An emulator cannot show what fetch sees of a store within
 * a line: it has no instruction fetch of its own.
 *
 * atomic-crossing is the negative control: the store is made to every site, also where it
 * crosses a line. A call that is fetched between the two halves goes astray.
 */
#include "internal.h"
#include "store.h"

static void update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct lab_site *site = changes[i].site;
		bool far = lab_crosses_line(site->insn, 5);

		site->target = changes[i].target;
		lab_store_displacement(far ? site->trampoline : site->insn, changes[i].target,
				       lab_half_step);
	}
	core_sync();
	lab_step(2);
}

/* Sites that cross a line call their trampoline, before anyone runs. */
static void prepare(void)
{
	for (unsigned place = 0; place < LAB_PLACES; place++) {
		const struct lab_site *site = &lab_sites[LAB_CALL][place];
		uint8_t call[5];

		if (!lab_crosses_line(site->insn, 5))
			continue;
		lab_encode(call, 0xe8, site->insn, (uintptr_t)site->trampoline);
		port_write_text(site->insn, call, sizeof(call));
	}
	core_sync();
}

static const struct lab_scheme lab_scheme_atomic = {
	.id = "atomic",
	.update = update,
	.prepare = prepare,
};
LAB_SCHEME(atomic);

/* ---------------------------------------------------- the store to all, come what may */

static void update_crossing(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		changes[i].site->target = changes[i].target;
		lab_store_displacement(changes[i].site->insn, changes[i].target, lab_half_step);
	}
	core_sync();
	lab_step(2);
}

static const struct lab_scheme lab_scheme_atomic_crossing = {
	.id = "atomic-crossing",
	.update = update_crossing,
};
LAB_SCHEME(atomic_crossing);
