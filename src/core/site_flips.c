/* SPDX-License-Identifier: MIT */
/* The sites of a key that is switched, as flips that come in blocks (poke.h). */
#include "core/site_flips.h"
#include "core/poke_batch.h"
#include "core/site_batch.h"

/* To the next module with a site, if there is none left in this one. False: there is no more. */
static bool find_site(struct shunt_site_flips *f)
{
	while (!f->site && f->mod) {
		f->mod = f->mod->next;
		f->site = f->mod ? f->mod->first : 0;
	}
	return f->site;
}

/* Whether it is, and stays, inline, so that nothing is to be noted of it. */
static bool poke_of(const struct shunt_site_flips *f, struct shunt_site *site, struct shunt_poke *p)
{
	const struct shunt_sites *s = f->mod->sites;

	if (s->kind->flip && s->kind->flip(s, site, f->change->to, p))
		return true;
	if (site->why != SHUNT_INLINE)
		return false;
	shunt_site_poke(s, site, f->change->from, f->change->to, p);
	return p->tag == SHUNT_INLINE && shunt_poke_is_flip(p);
}

static size_t next(struct shunt_flips *flips, struct shunt_poke *pokes, size_t max, bool first)
{
	struct shunt_site_flips *f = (struct shunt_site_flips *)flips;
	size_t n = 0;

	if (first) {
		f->mod = *shunt_key_mods(f->change->kind, f->change->key);
		f->site = f->mod ? f->mod->first : 0;
	}
	while (n < max && find_site(f)) {
		struct shunt_site *site = &f->mod->sites->table.sites[f->site - 1];

		if (!poke_of(f, site, &pokes[n]))
			break;
		__builtin_prefetch(pokes[n].addr); /* it is about to be looked at */
		f->site = site->next;
		n++;
	}
	return n;
}

void shunt_site_flips_of(struct shunt_site_flips *f, const struct shunt_key_change *change,
			 size_t n)
{
	*f = (struct shunt_site_flips){.flips = {next, n}, .change = change};
}
