/* SPDX-License-Identifier: MIT */
/*
 * The way by int3, after text_poke_bp_batch() of the Linux kernel, which is what the
 * debate of 2018 to 2020 arrived at:
 *
 *	int3 over the first bytes; core sync;
 *	the tails;                 core sync;
 *	the first bytes;           core sync.
 *
 * A thread that runs into an int3 gets the effect of the site's instruction from the
 * trap handler (trap.c). What that instruction is, old or new, is decided by one store,
 * the commit, while all the int3 stand. Sites for which one write does go by that, with the
 * first bytes: where nobody else runs the text, or the platform makes one store of it.
 *
 * Flips (poke_flip.c) that are in a batch with others have no int3 either. They are written
 * before the commit, as by themselves; and so late, because an earlier step that fails then finds
 * them old, and a later one new: what cannot be undone is as good as old, or as done. (A batch of
 * flips alone that comes here has every step: it was to trap.)
 *
 * It differs from the kernel's in what a process can do to it: a handler may run
 * long after its trap (late traps), a write may fail (everything goes back), and
 * an int3 may be somebody else's (never claimed).
 */
#include "core/poke_batch.h"

/* Whether what changes at @p lies in one aligned word of 8 bytes. */
static bool is_in_a_word(const struct shunt_poke *p)
{
	uint64_t differ = shunt_word_wanted(p, true) ^ shunt_word_wanted(p, false);
	unsigned offset = (unsigned)(uintptr_t)p->addr % 8;

	if (poke_owns_int3(p))
		return false; /* its tail may be anything */
	return !differ || (offset + (unsigned)__builtin_ctzll(differ) / 8) / 8 ==
				  (offset + 7 - (unsigned)__builtin_clzll(differ) / 8) / 8;
}

/*
 * Which sites go by one write; where all do, there is no int3. All flips do on the way back from
 * another way (@back).
 */
static void choose_one_writes(struct poke_batch *b, enum shunt_way way, bool back)
{
	b->no_int3 = true;
	for (size_t i = 0; way != SHUNT_WAY_ALONE && i < b->n; i++) {
		struct shunt_poke *p = &b->pokes[i];

		p->one_write = i >= poke_others(b) ||
			       (way == SHUNT_WAY_ATOMIC && is_in_a_word(p)) ||
			       (back && shunt_poke_is_flip(p));
		b->no_int3 = b->no_int3 && p->one_write;
	}
}

/* ----------------------------------------------------------------- the steps */

static void set_poked(const struct shunt_poke *p, uint8_t poked)
{
	/* Pairs with the acquire load in classify() of trap.c. */
	atomic_store_explicit(&p->site->poked, poked, memory_order_release);
}

static int write_int3(const struct poke_batch *b)
{
	const struct shunt_poke *pokes = b->pokes;
	int ret = 0;

	for (size_t i = 0; i < b->n; i++)
		if (!pokes[i].one_write)
			set_poked(&pokes[i], 1);
	for (size_t i = 0; i < b->n && !ret; i++)
		if (!pokes[i].one_write && pokes[i].addr[0] != SHUNT_INT3)
			ret = shunt_write_put(pokes[i].addr, SHUNT_INT3, 1);
	return ret ? ret : shunt_write_flush();
}

static bool tails_change(const struct poke_batch *b, bool back)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct shunt_poke *p = &b->pokes[i];

		if (!p->one_write &&
		    shunt_word_tail(shunt_word_now(p) ^ shunt_word_wanted(p, back)))
			return true;
	}
	return false;
}

static int write_tails(const struct poke_batch *b, bool back)
{
	int ret = 0;

	for (size_t i = 0; i < b->n && !ret; i++) {
		const struct shunt_poke *p = &b->pokes[i];

		if (!p->one_write)
			ret = shunt_write_tail(p, shunt_word_now(p), shunt_word_wanted(p, back));
	}
	return ret ? ret : shunt_write_flush();
}

/* On the way back some may never have been touched, because they cannot be. */
static int write_first_of(const struct poke_batch *b, size_t i, size_t end, bool back)
{
	int ret = 0;

	for (; i < end && !ret; i++) {
		const struct shunt_poke *p = &b->pokes[i];
		uint8_t first = back ? p->old[0] : p->new[0];

		if (b->no_int3 || p->one_write)
			ret = shunt_write_whole(p, shunt_word_now(p), shunt_word_wanted(p, back));
		else if (p->addr[0] != first)
			ret = shunt_write_put(p->addr, first, 1);
	}
	return ret ? ret : shunt_write_flush();
}

/* Each part is sorted, as the port wants it. Where one cannot be written, others can: one by one.
 */
static int put_first_bytes_back(const struct poke_batch *b)
{
	int ret = write_first_of(b, 0, poke_others(b), true), failed = 0;

	if (!ret)
		ret = write_first_of(b, poke_others(b), b->n, true);
	for (size_t i = 0; ret && i < b->n; i++) {
		int one = write_first_of(b, i, i + 1, true);

		if (one)
			failed = one;
	}
	return failed;
}

/*
 * The poke is over: where its int3 is gone, traps are no longer ours. It is gone
 * everywhere, unless the way back has failed.
 */
void shunt_poke_end_traps(const struct poke_batch *b)
{
	shunt_trap_poke_ended();
	if (b->no_int3 && !b->tails_unknown)
		return; /* no site has a mark */
	for (size_t i = 0; i < b->n; i++)
		if (b->pokes[i].addr[0] != SHUNT_INT3)
			set_poked(&b->pokes[i], 0);
}

/* ---------------------------------------------------------- forward and back */

/* The three steps. On failure, text is anything between old and new. */
int shunt_poke_int3(struct poke_batch *b, enum shunt_way way)
{
	int ret;

	choose_one_writes(b, way, false);
	ret = b->no_int3 ? 0 : shunt_port_install_handler();
	if (ret) /* and so no int3 may be written */
		return poke_step(b, "install the trap handler", ret);
	b->state = POKE_WRITING;
	if (!b->no_int3) {
		ret = poke_step(b, "write int3", write_int3(b));
		if (!ret)
			ret = poke_sync_step(b, "core sync after int3");
	}
	if (!ret && !b->no_int3 && tails_change(b, false)) {
		ret = poke_step(b, "write the tails", write_tails(b, false));
		if (!ret)
			ret = poke_sync_step(b, "core sync after the tails");
	}
	if (!ret)
		ret = poke_step(b, "write the first bytes", shunt_poke_write_flips(b));
	if (ret)
		return ret;
	poke_commit(b);
	ret = poke_step(b, b->no_int3 ? "write the sites" : "write the first bytes",
			write_first_of(b, 0, poke_others(b), false));
	return ret ? ret : poke_sync_step(b, "core sync after the first bytes");
}

/* A site that is not wholly old gets an int3, while its tail is put back. */
static int put_tails_back(const struct poke_batch *b)
{
	int ret = write_int3(b);

	if (!ret)
		ret = shunt_poke_sync();
	if (!ret)
		ret = write_tails(b, true);
	return ret ? ret : shunt_poke_sync();
}

/*
 * Back to the old bytes from wherever shunt_poke_int3() stopped, by the same three steps.
 * A site that is not wholly old gets an int3 first, because its tail, or another
 * CPU's idea of it, may be the new one. Where no tail has been touched, the first
 * byte alone is put back: int3 or not, the site is the old instruction.
 */
int shunt_poke_int3_back(struct poke_batch *b, enum shunt_way way)
{
	int ret = 0;

	if (b->state != POKE_WRITING && b->state != POKE_COMMITTED) { /* another way's failure */
		choose_one_writes(b, way, true);
		ret = b->no_int3 ? 0 : shunt_port_install_handler();
	}
	if (!ret && !b->no_int3 &&
	    (b->state == POKE_COMMITTED || b->tails_unknown || tails_change(b, true)))
		ret = put_tails_back(b);
	if (ret)
		return ret;
	poke_revert(b);
	ret = put_first_bytes_back(b);
	if (!ret)
		(void)shunt_poke_sync(); /* only ends the trapping; a late trap is retried */
	return ret;
}
