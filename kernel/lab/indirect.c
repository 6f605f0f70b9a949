/* SPDX-License-Identifier: MIT */
/*
 * indirect: each site calls a trampoline, which jumps through a word.
 *
 * The other version of what sites fall back on: "we have a direct and an indirect version. The
 * indirect version remains exactly the same" (Lutomirski, LKML 2018-11-29 [L1]). An update is one
 * store of data. No text is changed, no int3 is written, nobody needs to serialise.
 *
 * Held against it: an indirect jump in every call, for ever, and a retpoline where those are
 * wanted; to be rid of it is the reason for static calls.
 *
 * What the run shows: no hazard of a trap can hit it, and an aligned store of a word is seen
 * whole by loads.
 *
 * indirect-bytes is the negative control: the word is written byte by byte.
 */
#include <stdatomic.h>

#include "internal.h"
#include "store.h"

static void update(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct lab_site *site = changes[i].site;

		site->target = changes[i].target;
		atomic_store((_Atomic uintptr_t *)site->trampoline, changes[i].target);
	}
	lab_step(2);
}

static const struct lab_scheme lab_scheme_indirect = {
	.id = "indirect",
	.form = LAB_INDIRECT,
	.update = update,
};
LAB_SCHEME(indirect);

static void update_bytes(const struct lab_change *changes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct lab_site *site = changes[i].site;
		volatile uint8_t *word = site->trampoline;

		site->target = changes[i].target;
		for (size_t byte = 0; byte < sizeof(changes[i].target); byte++) {
			word[byte] = (uint8_t)(changes[i].target >> 8 * byte);
			lab_half_step();
		}
	}
	lab_step(2);
}

static const struct lab_scheme lab_scheme_indirect_bytes = {
	.id = "indirect-bytes",
	.form = LAB_INDIRECT,
	.update = update_bytes,
};
LAB_SCHEME(indirect_bytes);
