/* SPDX-License-Identifier: MIT */
/*
 * The way by new pages, where the platform can put them in the place of the old ones: no
 * thread traps, and a site is the old instruction or the new one at any moment. Sites that
 * another way has left on an int3 are mended by it. Of the flips among them (poke_flip.c) a byte
 * is written, and their pages stay; where that cannot be, they get new ones as well.
 */
#include "core/poke_batch.h"

static int remap(const struct shunt_poke *pokes, size_t n)
{
	shunt_poke_count(&shunt_poke_stats.writes, n);
	return shunt_port_text_remap(&pokes[0].to, n, sizeof(pokes[0]));
}

static int write_pages(const struct poke_batch *b)
{
	size_t others = poke_others(b);
	int ret = remap(b->pokes, others);

	if (ret || others == b->n || !shunt_poke_write_flips(b))
		return ret;
	return remap(b->pokes + others, b->n - others);
}

int shunt_poke_remap(struct poke_batch *b)
{
	int ret;

	b->state = POKE_WRITING;
	ret = poke_step(b, "remap pages", write_pages(b));
	if (ret)
		return ret;
	poke_commit(b);
	return poke_sync_step(b, "core sync after the remap");
}

/* Whether it is for us to put @p back: somebody else may have written there meanwhile. */
static bool is_ours(const struct shunt_poke *p)
{
	return shunt_word_now(p) == shunt_word_wanted(p, false) ||
	       (poke_owns_int3(p) && p->addr[0] == SHUNT_INT3);
}

/* Pages with the old bytes again, for the sites of one part, as many as there is room for. */
static int remap_old(const struct poke_batch *b, size_t i, size_t end)
{
	struct shunt_write *w = shunt_write_queue.w;
	int ret = 0;

	while (i < end && !ret) {
		size_t k = 0;

		for (; k < sizeof(shunt_write_queue.w) / sizeof(*w) && i < end; i++) {
			const struct shunt_poke *p = &b->pokes[i];

			if (!is_ours(p))
				continue;
			w[k].addr = p->addr;
			w[k].len = p->len;
			for (size_t byte = 0; byte < SHUNT_SITE_MAX; byte++)
				w[k].bytes[byte] = p->old[byte];
			k++;
		}
		ret = shunt_port_text_remap(w, k, sizeof(*w));
	}
	return ret;
}

int shunt_poke_remap_back(struct poke_batch *b)
{
	int ret;

	poke_revert(b);
	if (poke_is_old(b))
		return 0;
	ret = remap_old(b, 0, poke_others(b));
	if (!ret)
		ret = remap_old(b, poke_others(b), b->n);
	return ret ? ret : shunt_poke_sync();
}
