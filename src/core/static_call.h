/* SPDX-License-Identifier: MIT */
/*
 * Static calls as the port sees them: it finds the sites of a module and hands
 * them over in a table; core does the rest.
 */
#ifndef SHUNT_CORE_STATIC_CALL_H
#define SHUNT_CORE_STATIC_CALL_H

#include <shunt/port.h>
#include <shunt/static_call.h>

#include "core/site.h"

/* One key as one module calls it: an element of the key's list. */
struct static_call_mod {
	struct static_call_mod *next; /* the same key in other modules */
	struct static_call_key *key;
	struct static_call_table *table;
	uintptr_t tramp; /* what a direct call in the module goes to: trampoline or PLT */
	uintptr_t slot;  /* the GOT slot that an indirect call goes through */
	uint32_t first;  /* its first site in the table: index + 1; 0: none */
	uint32_t nr_sites;
};

/* The static-call sites of one module. */
struct static_call_table {
	struct shunt_table table;
	struct static_call_mod *mods; /* site.owner is an index into these */
	uint32_t nr_mods;
};

/*
 * Take over @t's sites: filled in by the caller are mods (key, tramp, slot) and
 * @sites (off, owner, kind), in any order; the rest is zero. Sorts the sites, links
 * them to their keys, and turns each into a direct call of its key's target.
 *
 * Returns 0, or the error for which all of them stay on the trampoline (they work);
 * @report then tells why. Takes the update lock.
 */
int static_call_add(struct static_call_table *t, uintptr_t base, struct shunt_site *sites,
		    uint32_t nr_sites, struct shunt_report *report);

/* Forget @t's sites: their module goes away. Takes the update lock. */
int static_call_remove(struct static_call_table *t);

/* What stands at a site while it is on the trampoline. */
void static_call_original(const struct static_call_table *t, const struct shunt_site *site,
			  struct shunt_insn *out);

#endif
