/* SPDX-License-Identifier: MIT */
/*
 * Static keys with their sites in a buffer, as a module has them: jump entries,
 * handles, nops and jumps as the compiler leaves them. What must stand at a site is
 * written out apart from the library's own encoder. Works over the fake port.
 */
#ifndef BRANCH_SITES_H
#define BRANCH_SITES_H

#include <stdbool.h>
#include <stdint.h>

#include <shunt/static_key.h>

#include "core/key.h"

#define BRANCH_STRIDE   8 /* from site to site */
#define MAX_BRANCHES    4096
#define MAX_BRANCH_KEYS 1024
#define BRANCH_MODULES  2

/* The array of keys; handles[m][i] is module m's for the i-th. */
extern struct shunt_static_key branch_keys[MAX_BRANCH_KEYS];
extern struct static_key branch_handles[BRANCH_MODULES][MAX_BRANCH_KEYS];

struct branches {
	uint8_t *text;
	uint32_t n;
	uint32_t nr_keys;
	struct static_jump_entry *entries;
	struct shunt_site *sites;
	struct shunt_sites *record; /* what is handed over */
};

extern struct branches branches[BRANCH_MODULES];

/* Make @n keys anew, of the value @initial; with EVERY_OTHER: every second one is on. */
#define EVERY_OTHER 2u
void branch_keys_new(uint32_t n, unsigned initial);

/*
 * Whether modules made from now on have been compiled with a header that switches off by tests;
 * else by nops, as older ones do. EVERY_OTHER: a site so, the next one so.
 */
extern unsigned branch_tests;

/*
 * Make the @index-th module anew, with @n sites dealt out to the first @nr_keys keys:
 * of 5 and 2 bytes, likely and unlikely, jumping up and down. Not known to the core.
 */
struct branches *branches_new(size_t index, uint32_t n, uint32_t nr_keys);

/* Hand it over, or take it back. */
int branches_add(struct branches *b, struct shunt_report *report);
void branches_remove(struct branches *b);

/* The key of site @i, its address, length, and where it jumps to. */
struct shunt_static_key *branch_key(const struct branches *b, uint32_t i);
uint8_t *branch_addr(const struct branches *b, uint32_t i);
unsigned branch_len(const struct branches *b, uint32_t i);
uint8_t *branch_target(const struct branches *b, uint32_t i);

/* Whether the bytes of site @i are those for a key that is on, or off. */
bool branch_is(const struct branches *b, uint32_t i, bool on);

/* What is wrong with text, marks or traps, by what each key says of itself; or NULL. */
const char *branches_wrong(const struct branches *b);

/* What is wrong with the traps alone, at any moment of a poke; or NULL. */
const char *branches_wrong_traps(const struct branches *b);
extern unsigned long branch_traps; /* emulated ones, looked at so far */

/* Have the fake port watch over the sites. */
void branches_watch(const struct branches *b);

#endif
