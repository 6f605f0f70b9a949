/* SPDX-License-Identifier: MIT */
/*
 * Flips (poke_flip.c) that come in blocks: 100,000 sites of one key are not listed, for a list of
 * them is allocated, written, read and thrown away at more cost than it takes to find the sites
 * again. So each pass over the batch (look at each site; write; where it fails, write back) finds
 * them anew.
 *
 * There are no other ways here. What fails is put back, and then nothing has happened: the batch
 * becomes a list, and goes by whatever ways there are (poke.c). Errors are a core sync that has
 * failed, because each way needs it, and what could not be put back, by any way.
 */
#include "core/poke_batch.h"

/* So many that a block is a run of pages even where sites lie close. (The test has smaller ones.)
 */
#ifndef SHUNT_FLIP_BLOCK
#define SHUNT_FLIP_BLOCK 4096
#endif
#define BLOCK SHUNT_FLIP_BLOCK

/*
 * The block, and the batch that is going on (n: of all its sites; pokes: none). Update lock. Not on
 * a stack, as going_on of poke.c. A block's writes lie over its pokes, each over one that is done
 * with.
 */
static union {
	struct shunt_poke pokes[BLOCK];
	struct shunt_write writes[BLOCK];
} block;
static struct poke_batch going_on;
static struct shunt_flips *flips_going_on;

/* The next ones, into the block. */
static size_t next_block(struct shunt_flips *flips, bool first)
{
	return flips->next(flips, block.pokes, BLOCK, first);
}

static int check_text(size_t n)
{
	return shunt_port_text_check(&block.pokes[0].to, n, sizeof(block.pokes[0]));
}

/* ---------------------------------------------------------- before the poke */

/* Whether the block's sites are flips, lie behind *end one after the other, and are as expected. */
static bool is_block_as_expected(size_t n, const uint8_t **end)
{
	const uint8_t *behind = *end;

	if (check_text(n))
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct shunt_poke *p = &block.pokes[i];

		__builtin_prefetch(block.pokes[(i + 16) % BLOCK].addr);
		if (p->addr < behind || !shunt_poke_is_flip(p) ||
		    shunt_word_now(p) != shunt_word_wanted(p, true))
			return false;
		behind = p->addr + p->len;
	}
	*end = behind;
	return true;
}

static bool are_as_expected(struct shunt_flips *flips)
{
	const uint8_t *end = NULL;
	size_t n, seen = 0;

	for (bool first = true; (n = next_block(flips, first)); first = false) {
		if (!is_block_as_expected(n, &end))
			return false;
		seen += n;
	}
	return seen == flips->n;
}

/* ---------------------------------------------------------- forward and back */

/* The first bytes of a block; back, of those that are new: what others have written is left. */
static int write_block(size_t n, bool back)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		const struct shunt_poke *p = &block.pokes[i];

		if (back && shunt_word_now(p) != shunt_word_wanted(p, false))
			continue;
		shunt_write_fill(&block.writes[k++], p->addr, shunt_flip_bytes(p, back),
				 SHUNT_FLIP_LEN);
	}
	if (!k)
		return 0;
	shunt_poke_count(&shunt_poke_stats.writes, k);
	shunt_poke_count(&shunt_poke_stats.bytes, k * SHUNT_FLIP_LEN);
	return shunt_port_text_write(block.writes, k);
}

static int write_all(struct shunt_flips *flips, bool back)
{
	int ret = 0;
	size_t n;

	for (bool first = true; !ret && (n = next_block(flips, first)); first = false)
		ret = write_block(n, back);
	return ret;
}

/* As shunt_poke_flip(). */
static int flip(struct poke_batch *b, struct shunt_flips *flips)
{
	int ret;

	b->state = POKE_WRITING;
	ret = poke_step(b, "write the first bytes", write_all(flips, false));
	if (ret)
		return ret;
	poke_commit(b);
	return poke_sync_step(b, "core sync after the first bytes");
}

/* Whether it works is seen in the text. */
static void flip_back(struct poke_batch *b, struct shunt_flips *flips)
{
	poke_revert(b);
	if (!write_all(flips, true))
		(void)shunt_poke_sync(); /* where it fails, so does that of the list */
}

/* Block by block, by the ways that have not been tried. Returns what the worst site is then. */
static enum poke_state put_back(const struct poke_batch *b, struct shunt_flips *flips,
				unsigned tried)
{
	enum poke_state worst = POKE_OLD;
	size_t n;

	for (bool first = true; (n = next_block(flips, first)); first = false) {
		struct poke_batch part = {.pokes = block.pokes,
					  .n = n,
					  .flips = n,
					  .change = b->change,
					  .report = b->report};
		enum poke_state state = POKE_MIXED; /* where it cannot be seen */

		if (!check_text(n))
			state = shunt_poke_put_back(&part, tried);
		if (state > worst)
			worst = state;
	}
	if (worst == POKE_MIXED && b->change->mixed)
		b->change->mixed(b->change);
	return worst;
}

/* It has failed with @error: what is to be returned. */
static int undo(struct poke_batch *b, struct shunt_flips *flips, int error)
{
	enum poke_state worst = put_back(b, flips, 1u << SHUNT_WAY_FLIP);
	const char *left = shunt_poke_what_is_left(worst);

	if (worst == POKE_OLD && !b->sync_failed)
		return SHUNT_AS_A_LIST;
	(void)next_block(flips, true);
	b->report->error = error;
	b->report->what = left ? left : b->step;
	b->report->site = block.pokes[0].addr;
	return error;
}

/* ------------------------------------------------------------------ the batch */

int shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
		     struct shunt_report *report)
{
	struct poke_batch *b = &going_on;
	int ret = SHUNT_AS_A_LIST, way;

	if (!are_as_expected(flips))
		return SHUNT_AS_A_LIST;
	way = shunt_port_poke_begin(flips->n, true, 0);
	if (way < 0)
		return SHUNT_AS_A_LIST;
	*b = (struct poke_batch){.change = change, .report = report};
	flips_going_on = flips;
	atomic_signal_fence(memory_order_release); /* a copy finds it whole, or not at all */
	b->n = flips->n;
	if (way == SHUNT_WAY_FLIP)
		ret = flip(b, flips);
	if (ret && b->state != POKE_READY)
		flip_back(b, flips);
	shunt_port_poke_end();
	if (!ret)
		shunt_poke_count(&shunt_poke_stats.pokes, 1);
	else if (b->state != POKE_READY)
		ret = undo(b, flips, ret);
	b->n = 0;
	return ret;
}

void shunt_poke_flips_repair(void)
{
	struct poke_batch *b = &going_on;

	if (!b->n)
		return;
	b->change->revert(b->change);
	(void)put_back(b, flips_going_on, 0);
	b->n = 0;
}
