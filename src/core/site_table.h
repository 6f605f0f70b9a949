/* SPDX-License-Identifier: MIT */
/*
 * The tables that hold sites. A table has the sites of one module,
 * sorted by address; the trap handler finds a site in it and asks the table's
 * owner what the site is to do now.
 *
 * Lifetime: a handler can be delayed for any time between its trap and its look
 * into the tables. Tables and site arrays are type-stable: once a table, always a table, and
 * an array that is freed is only ever an array of sites again. A table that is withdrawn is
 * empty and can be filled again; its sequence count tells a reader that this
 * happened under its eyes.
 */
#ifndef SHUNT_CORE_SITE_TABLE_H
#define SHUNT_CORE_SITE_TABLE_H

#include "core/site.h"

struct shunt_table {
	struct shunt_table *next; /* set before the table is published, then constant */
	_Atomic unsigned seq;     /* odd while the fields below change */
	_Atomic uintptr_t base;
	struct shunt_site *_Atomic sites; /* sorted by off */
	_Atomic uint32_t nr_sites;
	/*
	 * The instruction that @site is to have now, as the trap emulates it; false
	 * where it has none any more. Called by the trap handler: no lock, no side
	 * effect.
	 */
	bool (*insn)(const struct shunt_table *table, const struct shunt_site *site,
		     struct shunt_insn *out);
};

static inline uint8_t *shunt_site_addr(const struct shunt_table *table,
				       const struct shunt_site *site)
{
	return (uint8_t *)(table->base + site->off);
}

/*
 * Make @table's sites known to the trap handler. The first call for a table
 * links it into the list for good. Update lock held.
 */
void shunt_table_publish(struct shunt_table *table, uintptr_t base, struct shunt_site *sites,
			 uint32_t nr_sites);

/* Empty @table: its module goes away. Update lock held. */
void shunt_table_withdraw(struct shunt_table *table);

/*
 * The site whose instruction starts at @addr, or NULL; @insn gets what it is to do
 * now. Safe in the trap handler.
 */
struct shunt_site *shunt_site_find(uintptr_t addr, struct shunt_insn *insn);

/* The same among the sites of keys alone, those that are in tables. */
struct shunt_site *shunt_site_find_key(uintptr_t addr, struct shunt_insn *insn);

/* Whether a byte of [addr, addr + len) is of a key's site. Update lock held. */
bool shunt_site_overlaps(uintptr_t addr, size_t len);

#endif
