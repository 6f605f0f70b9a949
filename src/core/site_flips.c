/* SPDX-License-Identifier: MIT */
/* The sites of a key that is switched, as flips that come in blocks (poke.h). */
#include "core/site_flips.h"
#include "core/poke_batch.h"
#include "core/site_batch.h"

/* Whether it is, and stays, inline, so that nothing is to be noted of it. */
static bool poke_of(const struct shunt_key_change *c, const struct shunt_sites *s,
		    struct shunt_site *site, struct shunt_poke *p)
{
	if (site->why != SHUNT_INLINE)
		return false;
	shunt_site_poke(s, site, c->from, c->to, p);
	return p->tag == SHUNT_INLINE && shunt_poke_is_flip(p);
}

static size_t next(struct shunt_flips *flips, struct shunt_poke *pokes, size_t max, bool first)
{
	struct shunt_site_flips *f = (struct shunt_site_flips *)flips;
	const struct shunt_mod *mod = f->mod;
	uint32_t at = f->site;
	size_t n = 0;

	if (first) {
		mod = *shunt_key_mods(f->change->kind, f->change->key);
		at = mod ? mod->first : 0;
	}
	while (n < max && mod) {
		const struct shunt_sites *s = mod->sites;

		if (!at) {
			mod = mod->next;
			at = mod ? mod->first : 0;
			continue;
		}
		if (s->kind->flips)
			n += s->kind->flips(s, &at, f->change->to, &pokes[n], max - n);
		if (!at || n == max)
			continue;
		if (!poke_of(f->change, s, &s->table.sites[at - 1], &pokes[n]))
			break;
		at = s->table.sites[at - 1].next;
		n++;
	}
	f->mod = mod;
	f->site = at;
	return n;
}

void shunt_site_flips_of(struct shunt_site_flips *f, const struct shunt_key_change *change,
			 size_t n)
{
	*f = (struct shunt_site_flips){.flips = {next, n}, .change = change};
}
