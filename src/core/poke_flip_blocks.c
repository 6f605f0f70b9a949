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
#include "core/error.h"
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

static void fill_write(struct shunt_write *w, struct shunt_poke p)
{
	shunt_write_fill_flip(w, &p, false);
}

static int write_block(size_t n)
{
	for (size_t i = 0; i < n; i++)
		fill_write(&block.writes[i], block.pokes[i]); /* a copy: one lies over the other */
	shunt_poke_count(&shunt_poke_stats.writes, n);
	shunt_poke_count(&shunt_poke_stats.bytes, n * SHUNT_FLIP_LEN);
	return shunt_port_text_write(block.writes, n);
}

static int write_all(struct shunt_flips *flips)
{
	int ret = 0;
	size_t n;

	for (bool first = true; !ret && (n = next_block(flips, first)); first = false)
		ret = write_block(n);
	return ret;
}

/* Each that can be written. */
static int write_all_back(struct shunt_flips *flips)
{
	int failed = 0;
	size_t n;

	for (bool first = true; (n = next_block(flips, first)); first = false) {
		int ret = check_text(n);

		if (!ret)
			ret = shunt_poke_write_flips_back(block.pokes, n);
		if (ret)
			failed = ret;
	}
	return failed;
}

/* As shunt_poke_flip(). */
static int flip(struct poke_batch *b, struct shunt_flips *flips)
{
	int ret;

	b->state = POKE_WRITING;
	ret = poke_step(b, "write the first bytes", write_all(flips));
	if (ret)
		return ret;
	poke_commit(b);
	return poke_sync_step(b, "core sync after the first bytes");
}

/* Whether it works is seen in the text. */
static void flip_back(struct poke_batch *b, struct shunt_flips *flips)
{
	poke_revert(b);
	if (!write_all_back(flips))
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

/* Whether some site is the new instruction, or cannot be seen. */
static bool is_any_new(struct shunt_flips *flips)
{
	size_t n;

	for (bool first = true; (n = next_block(flips, first)); first = false) {
		if (check_text(n))
			return true;
		for (size_t i = 0; i < n; i++)
			if (shunt_word_now(&block.pokes[i]) ==
			    shunt_word_wanted(&block.pokes[i], false))
				return true;
	}
	return false;
}

/* The first site that is not as it was, or cannot be seen; where there is none, the first. */
static const void *first_not_old(struct shunt_flips *flips)
{
	size_t n;

	for (bool first = true; (n = next_block(flips, first)); first = false) {
		bool is_seen = !check_text(n);

		for (size_t i = 0; i < n; i++)
			if (!is_seen || shunt_word_now(&block.pokes[i]) !=
						shunt_word_wanted(&block.pokes[i], true))
				return block.pokes[i].addr;
	}
	(void)next_block(flips, true);
	return block.pokes[0].addr;
}

/* It has failed with @error: what is to be returned. */
static int undo(struct poke_batch *b, struct shunt_flips *flips, int error)
{
	enum poke_state worst;
	const char *left;

	/* What stands where a site was not as expected is somebody else's: the list says so. */
	if (error == -SHUNT_EBUSY && !is_any_new(flips))
		return SHUNT_AS_A_LIST;
	worst = put_back(b, flips, 1u << SHUNT_WAY_FLIP);
	left = shunt_poke_what_is_left(worst);

	if (worst == POKE_OLD && !b->sync_failed)
		return SHUNT_AS_A_LIST;
	b->report->error = error;
	b->report->what = left ? left : b->step;
	b->report->site = first_not_old(flips);
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
