/* SPDX-License-Identifier: MIT */
/* The sites of a key that is switched, as flips that come in blocks (site_flips.c). */
#ifndef SHUNT_CORE_SITE_FLIPS_H
#define SHUNT_CORE_SITE_FLIPS_H

#include "core/key.h"
#include "core/poke.h"

struct shunt_site_flips {
	struct shunt_flips flips; /* first: for shunt_poke_flips() */
	const struct shunt_key_change *change;
	const struct shunt_mod *mod; /* where it has got to, of the key's modules, */
	uint32_t site;               /* and of its sites there: index + 1; 0: no more */
};

/*
 * Make @f the @n sites of change->key, from change->from to change->to. The change must stay
 * where it is. Update lock held.
 */
void shunt_site_flips_of(struct shunt_site_flips *f, const struct shunt_key_change *change,
			 size_t n);

#endif
