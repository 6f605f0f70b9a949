/* SPDX-License-Identifier: MIT */
/*
 * Flips: sites of which the first byte changes and nothing else, as what is only switched on and
 * off does (the two forms of a static branch, of a call that may be NULL). A batch of them:
 *
 *	the first bytes; commit; core sync.
 *
 * It is the last step of the int3 protocol without those before it. There too a byte is written
 * that CPUs fetch meanwhile, int3 or the new first byte, behind a tail that is the same to all of
 * them: it has not changed since a core sync. But there one of the two is an int3. (A site that a
 * poke has left on its int3 is no flip, because of its tail nothing is known.) A CPU fetches
 * that byte old or new, with the same tail, and so executes the old instruction or the new one;
 * both are whole, of one length, and nothing jumps between. doc/references.md has what the
 * makers of CPUs and of Linux say of it.
 *
 * Who sees what: until the first write all is old. From there to the end of the core sync each
 * CPU executes a site as old or as new, and may go from new to old again, where it had fetched
 * the old one before and does not look again: so the order among the writes does not matter, and
 * none is promised. The commit turns what goes by the value of the key (calls through the
 * trampoline, queries) between the writes and the sync: behind the writes, because these may fail
 * and then nothing else has changed, and a caller of query does not see a value that is taken
 * back; before the sync, so that no CPU has anything old left of either when the update
 * returns. A sync that fails is a batch that has failed: the value and the bytes go back.
 *
 * A call that is off does not get another target so, although its tail would only be the
 * immediate of a test meanwhile (two syncs, no int3). CPUs would execute an instruction while
 * bytes of its operand change, which nothing here rests on (models/README.md, TAIL_WHILE_OFF).
 *
 * No thread traps, and no handler is installed. A trap that is late, of an int3 of an earlier
 * poke, finds none and is retried (trap.c).
 */
#include "core/error.h"
#include "core/poke_batch.h"

bool shunt_poke_is_flip(const struct shunt_poke *p)
{
	return shunt_is_flip(shunt_word_wanted(p, true), shunt_word_wanted(p, false)) &&
	       !poke_owns_int3(p);
}

static int write_from(const struct poke_batch *b, size_t first)
{
	int ret = 0;

	for (size_t i = first; i < b->n && !ret; i++)
		ret = shunt_write_put_flip(&b->pokes[i], false);
	return ret ? ret : shunt_write_flush();
}

int shunt_poke_write_flips(const struct poke_batch *b)
{
	return write_from(b, poke_others(b));
}

static int write_back(const struct shunt_poke *pokes, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++)
		if (shunt_word_now(&pokes[i]) == shunt_word_wanted(&pokes[i], false))
			ret = shunt_write_put_flip(&pokes[i], true);
	return ret ? ret : shunt_write_flush();
}

int shunt_poke_write_flips_back(const struct shunt_poke *pokes, size_t n)
{
	int ret = write_back(pokes, n), failed = 0;

	if (!ret)
		return 0;
	/* One by one: where one cannot be written, others can. */
	for (size_t i = 0; i < n; i++) {
		ret = write_back(&pokes[i], 1);
		if (ret)
			failed = ret;
	}
	return failed;
}

int shunt_poke_flip(struct poke_batch *b)
{
	int ret;

	b->state = POKE_WRITING;
	ret = poke_step(b, "write the first bytes", write_from(b, 0));
	if (ret)
		return ret;
	poke_commit(b);
	return poke_sync_step(b, "core sync after the first bytes");
}

/* What somebody else has written meanwhile is not put back. */
int shunt_poke_flip_back(struct poke_batch *b)
{
	int ret;

	poke_revert(b);
	ret = shunt_poke_write_flips_back(b->pokes, b->n);
	return ret ? ret : shunt_poke_sync();
}
