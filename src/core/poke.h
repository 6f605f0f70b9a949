/* SPDX-License-Identifier: MIT */
/*
 * The poke: change the instructions at any number of sites under running threads,
 * all or none (poke.c; each way has its protocol in poke_int3.c, poke_remap.c, poke_flip.c).
 */
#ifndef SHUNT_CORE_POKE_H
#define SHUNT_CORE_POKE_H

#include <shunt/port.h>

#include "core/site.h"

/* One site of a batch. */
struct shunt_poke {
	union {
		struct shunt_write to; /* the whole new instruction, as one write */
		struct {
			uint8_t *addr;
			uint8_t len;    /* 1 to SHUNT_SITE_MAX */
			uint8_t new[7]; /* @len of them count */
		};
	};
	struct shunt_site *site; /* its record, which the trap handler finds by @addr */
	uint8_t old[SHUNT_SITE_MAX];
	uint8_t tag;    /* the caller's own */
	bool one_write; /* the poke's own: by one write, without an int3, where not all go so */
};

_Static_assert(sizeof(struct shunt_poke) == 32, "a batch of 100,000 sites: 32 bytes each");

/*
 * What changes together with the text: @commit makes what the trap handler
 * emulates (shunt_table.insn) the new instruction of every site, @revert the old
 * one again. Both must be no more than atomic stores. @done, where there is one, is
 * the caller's book-keeping when all went well. Each can be called again.
 */
struct shunt_change {
	void (*commit)(struct shunt_change *change);
	void (*revert)(struct shunt_change *change);
	void (*done)(struct shunt_change *change);
	void (*mixed)(struct shunt_change *change);
};

/*
 * Change @n sites, sorted in place by address, from their old to their new bytes.
 *
 * Precondition: the update lock is held; every site's record is in a published
 * table.
 *
 * Returns 0; or a negative error with text and @change as they were, and what
 * happened in @report (key left for the caller to fill in):
 *   -EINVAL  two sites overlap
 *   -EBUSY   a site's bytes are not the old ones
 *   or what the port failed with. Should the way back fail too, some sites are
 *   left with an int3 that goes on having the effect of the old instruction; or,
 *   if that was past the commit, of the new one, and the result is 0 with
 *   report->error set. The next poke of such a site mends it.
 */
int shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		     struct shunt_report *report);

/*
 * Flips, of which the first byte changes and nothing else: many of them, which are not listed but
 * come in blocks.
 */
struct shunt_flips {
	/*
	 * The next ones, @max at most, into @pokes, in ascending order; @first: from the first on,
	 * again. Returns how many: 0 where there are no more, or where the next one is no flip.
	 */
	size_t (*next)(struct shunt_flips *flips, struct shunt_poke *pokes, size_t max, bool first);
	size_t n; /* of all */
};

/*
 * As shunt_poke_batch(), for @flips, by that way alone; change->done is not called. Returns besides
 *   SHUNT_AS_A_LIST  nothing has changed, and nothing is reported: they may not all be flips, or
 *                    there is no such way, or it has failed. shunt_poke_batch() is to see.
 * An error: a core sync has failed, or sites could not be put back.
 */
#define SHUNT_AS_A_LIST 1
int shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
		     struct shunt_report *report);

/*
 * For a process that was copied (by a raw clone) in the middle of a poke whose thread it
 * does not have: take the poke back, by one way after the other; where none works, change->mixed()
 * says so. Update lock held; nobody else runs this text. Nothing happens where no poke was going
 * on.
 */
void shunt_poke_repair(void);

/* The same for shunt_poke_flips(). */
void shunt_poke_flips_repair(void);

/* Totals since start; each is monotonic. Any thread. */
struct shunt_poke_stats {
	_Atomic uint64_t pokes;  /* batches that went through */
	_Atomic uint64_t writes; /* single writes asked of the port */
	_Atomic uint64_t bytes;  /* bytes in them */
	_Atomic uint64_t syncs;  /* core syncs */
};
extern struct shunt_poke_stats shunt_poke_stats;

#endif
