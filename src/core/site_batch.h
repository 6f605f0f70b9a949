/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a key's site, and the changes of sites that make one batch of pokes. There
 * is one batch at a time. Update lock held.
 */
#ifndef SHUNT_CORE_SITE_BATCH_H
#define SHUNT_CORE_SITE_BATCH_H

#include "core/key.h"
#include "core/poke.h"

/* Whether the site's bytes follow from the key's value. */
static inline bool shunt_site_is_direct(const struct shunt_site *site)
{
	return shunt_site_is_inline(site) || site->why == SHUNT_WHY_FAR;
}

/*
 * A baked site that could not be brought up to its key: it does what the first value was. Where it
 * had other bytes when it was found, as while a debugger's breakpoint stands there, it will.
 */
static inline bool shunt_site_is_stale(const struct shunt_site *site)
{
	return site->baked && (site->why == SHUNT_WHY_WRITE || site->why == SHUNT_WHY_FOREIGN);
}

/* The bytes that stand at the site while the value is @value, if nobody else was there. */
void shunt_site_bytes(const struct shunt_sites *s, const struct shunt_site *site, uintptr_t value,
		      uint8_t bytes[SHUNT_SITE_MAX]);

/*
 * What a site of a poke that has failed is, by its bytes, because it may not have been undone: what
 * its key's value asks for, or SHUNT_WHY_WRITE.
 */
enum shunt_why shunt_site_why_now(const struct shunt_sites *s, const struct shunt_site *site);

/* The change of @site from @from to @to, whatever stands there, into @p. */
void shunt_site_poke(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
		     uintptr_t to, struct shunt_poke *p);

/* Begin a batch of at most @max sites. 0 or -ENOMEM, reported. */
int shunt_site_batch_begin(size_t max, struct shunt_report *report);

/*
 * Add the change of @site from @from to @to, if there is any to its bytes; with @always even if
 * there is none, because other bytes may stand there, and that is looked at.
 */
void shunt_site_batch_add(const struct shunt_sites *s, struct shunt_site *site, uintptr_t from,
			  uintptr_t to, bool always);

/*
 * The same for a site that is, and stays, a plain call or jmp of its
 * key's value; false where it is or becomes something else.
 */
bool shunt_site_batch_add_plain(const struct shunt_sites *s, struct shunt_site *site,
				uintptr_t from, uintptr_t to);

/* The same to @to from the other value, for what kind->flips knows. */
bool shunt_site_batch_add_flip(const struct shunt_sites *s, struct shunt_site *site, uintptr_t to);

/* Poke the batch (shunt_poke_batch()), and end it. */
int shunt_site_batch_poke(struct shunt_change *change, struct shunt_report *report);

/* shunt_change.done: what is said of the sites is true from here on, not before. */
void shunt_site_batch_done(struct shunt_change *change);

#endif
