/* SPDX-License-Identifier: MIT */
/*
 * The poke: a batch of sites is verified, and then goes by one way after the other
 * (poke_flip.c, poke_int3.c, poke_remap.c) until one works or none is left. What a failure leads to
 * is said in one place, after_failure().
 */
#include "core/error.h"
#include "core/poke_batch.h"
#include "core/sort.h"

/* ---------------------------------------------------------- before the poke */

/* Batches mostly come sorted: see without a call for each. */
static bool is_sorted(const struct shunt_poke *p, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (p[i - 1].addr > p[i].addr)
			return false;
	return true;
}

static uintptr_t address(const void *poke)
{
	return (uintptr_t)((const struct shunt_poke *)poke)->addr;
}

/*
 * The address, behind those of all others if it is a flip. (The highest two bits of an address
 * are the same.)
 */
static uintptr_t address_in_part(const void *poke)
{
	const uintptr_t top = (uintptr_t)1 << 63;

	return (address(poke) & ~top) | (shunt_poke_is_flip(poke) ? top : 0);
}

/* How many flips there are; where there are others too, they come last. */
static size_t part_flips(struct shunt_poke *pokes, size_t n)
{
	size_t flips = 0;

	for (size_t i = 0; i < n; i++)
		flips += shunt_poke_is_flip(&pokes[i]);
	if (flips && flips < n)
		shunt_sort(pokes, n, sizeof(pokes[0]), address_in_part);
	return flips;
}

static int fail(struct shunt_report *report, const struct shunt_poke *p, const char *what,
		int error)
{
	report->error = error;
	report->what = what;
	report->site = p ? p->addr : NULL;
	return error;
}

/* @pokes are sorted by address. */
static int check_overlaps(const struct shunt_poke *pokes, size_t n, struct shunt_report *report)
{
	for (size_t i = 1; i < n; i++)
		if (pokes[i - 1].addr + pokes[i - 1].len > pokes[i].addr)
			return fail(report, &pokes[i], "two sites overlap", -SHUNT_EINVAL);
	return 0;
}

/* Refuse the batch if any site is not as it should be. Nothing is written yet. */
static int verify(const struct shunt_poke *pokes, size_t n, struct shunt_report *report)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_poke *p = &pokes[i];

		if (shunt_word_now(p) == shunt_word_wanted(p, true))
			continue;
		/* An int3 of ours, left by a poke that could not be undone: any tail. */
		if (poke_owns_int3(p) && p->addr[0] == SHUNT_INT3)
			continue;
		report->nbytes = p->len;
		for (size_t b = 0; b < p->len; b++) {
			report->found[b] = p->addr[b];
			report->expected[b] = p->old[b];
		}
		return fail(report, p, "foreign bytes stand at the site", -SHUNT_EBUSY);
	}
	return 0;
}

/* ----------------------------------------------------------- after a failure */

static bool owns_an_int3(const struct poke_batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (poke_owns_int3(&b->pokes[i]))
			return true;
	return false;
}

/* Whether every site has the effect of the old instruction: it is that, or an int3 of ours. */
static bool is_old_or_int3(const struct poke_batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct shunt_poke *p = &b->pokes[i];

		if (shunt_word_now(p) != shunt_word_wanted(p, true) &&
		    !(poke_owns_int3(p) && p->addr[0] == SHUNT_INT3))
			return false;
	}
	return true;
}

/* Whether every site without an int3 is the new instruction. */
static bool is_new_or_int3(const struct poke_batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->pokes[i].addr[0] != SHUNT_INT3 &&
		    shunt_word_now(&b->pokes[i]) != shunt_word_wanted(&b->pokes[i], false))
			return false;
	return true;
}

static int go(struct poke_batch *b, enum shunt_way way)
{
	if (way == SHUNT_WAY_FLIP)
		return shunt_poke_flip(b);
	return way == SHUNT_WAY_REMAP ? shunt_poke_remap(b) : shunt_poke_int3(b, way);
}

static int go_back(struct poke_batch *b, enum shunt_way way)
{
	if (way == SHUNT_WAY_FLIP)
		return shunt_poke_flip_back(b);
	return way == SHUNT_WAY_REMAP ? shunt_poke_remap_back(b) : shunt_poke_int3_back(b, way);
}

/* Whether sites trap meanwhile; else each is whole at any moment. */
static bool has_traps(enum shunt_way way)
{
	return way != SHUNT_WAY_REMAP && way != SHUNT_WAY_FLIP;
}

/* What is done next. */
enum poke_next {
	NEXT_WAY,  /* try another way; what this one has left is put back by it first */
	PUT_BACK,  /* no way can work: only put back what this one has left */
	TELL,      /* the batch has failed: say what is left of it */
	TELL_ELSE, /* it has failed for another reason, which has been said */
	DONE,      /* it is as good as done */
};

/*
 * A way has failed with @error, and left the batch anything between old and new:
 *
 *	its way back works       every site is old again
 *	it fails too             sites with an int3 are left, still marked, that have the
 *	                         effect of the new instruction if it was committed and all
 *	                         others are new, and else of the old one; or changed sites
 *	foreign bytes            no other way may write there either
 *	a core sync has failed   no other way is tried, because each needs it
 *	anything else            the next way
 *
 * (Before a write fails here the port has tried its other writer where it may: linux/text/text.c.)
 */
static enum poke_next after_failure(struct poke_batch *b, enum shunt_way way, int error)
{
	bool is_back = b->state == POKE_READY || !go_back(b, way);

	if (b->state != POKE_READY && (has_traps(way) || b->tails_unknown))
		shunt_poke_end_traps(b);
	if (b->state == POKE_COMMITTED && is_new_or_int3(b)) {
		b->state = POKE_NEW_INT3;
		return DONE;
	}
	poke_revert(b);
	if (is_back)
		b->state = POKE_OLD;
	else if (has_traps(way))
		b->state = POKE_OLD_INT3;
	else /* only the core sync behind the way back has failed, or a part of that itself */
		b->state = poke_is_old(b) ? POKE_UNSEEN : POKE_MIXED;
	if (error == -SHUNT_EBUSY && verify(b->pokes, b->n, b->report))
		return TELL_ELSE;
	if (!b->sync_failed)
		return NEXT_WAY;
	return poke_is_old(b) ? TELL : PUT_BACK;
}

const char *shunt_poke_what_is_left(enum poke_state state)
{
	static const char *const left[] = {
		[POKE_NEW_INT3] = "write text, or undo it; sites are left on a breakpoint",
		[POKE_OLD_INT3] = "write text, or undo it; sites are left on a breakpoint",
		[POKE_MIXED] = "write text, or undo it; sites are left changed",
		[POKE_OLD_AGAIN] = "write text; it was undone by another way",
		[POKE_UNSEEN] = ("core sync, also behind undoing it; the text is as it was, "
				 "but another CPU may not have seen that yet"),
	};

	return state < sizeof(left) / sizeof(left[0]) ? left[state] : NULL;
}

/* No way has worked: what the message is to say of the sites. */
static void tell_what_is_left(struct poke_batch *b)
{
	const char *left;

	if (b->state != POKE_NEW_INT3 && !poke_is_old(b))
		b->state = is_old_or_int3(b) ? POKE_OLD_INT3 : POKE_MIXED;
	else if (b->state == POKE_OLD_INT3 || b->state == POKE_MIXED)
		b->state = POKE_OLD_AGAIN;
	left = shunt_poke_what_is_left(b->state);
	if (left)
		b->report->what = left;
	for (size_t i = 0; i < b->n && b->state != POKE_NEW_INT3; i++)
		if (shunt_word_now(&b->pokes[i]) != shunt_word_wanted(&b->pokes[i], true)) {
			b->report->site = b->pokes[i].addr;
			break;
		}
}

/* ------------------------------------------------------------------ the batch */

/*
 * The batch that is going on. Not on the stack of the thread that makes it: a copy of the
 * process, made by a raw clone() of another thread, has nothing else to find its way back by.
 */
static struct poke_batch going_on;

static enum poke_next poke_by(struct poke_batch *b, enum shunt_way way, int *ret)
{
	b->state = POKE_READY;
	b->sync_failed = false;
	b->tails_unknown = owns_an_int3(b);
	*ret = go(b, way);
	if (*ret) {
		fail(b->report, b->pokes, b->step, *ret);
		return after_failure(b, way, *ret);
	}
	b->state = POKE_NEW;
	if (has_traps(way) || b->tails_unknown)
		shunt_poke_end_traps(b);
	return DONE;
}

/* Back to the old bytes, by @way, from whatever another has left. Nothing is committed. */
static int put_back(struct poke_batch *b, enum shunt_way way)
{
	int ret = 0;

	b->tails_unknown = true;
	if (!poke_is_old(b)) /* else there are but marks, if it was stopped before its first int3 */
		ret = go_back(b, way);
	shunt_poke_end_traps(b);
	return ret;
}

/*
 * The same by one way after the other until one works. A way that has failed forward has failed
 * to go back as well, so not by one of @tried.
 */
static void put_back_by_any(struct poke_batch *b, unsigned tried)
{
	while (!poke_is_old(b)) {
		int way = shunt_port_poke_begin(b->n, false, tried | SHUNT_PUT_BACK);

		if (way < 0)
			break;
		b->state = POKE_OLD_INT3;
		(void)put_back(b, (enum shunt_way)way); /* it is seen in the text */
		shunt_port_poke_end();
		tried |= 1u << way;
	}
	shunt_poke_end_traps(b); /* an int3 that is left does the right thing */
}

enum poke_state shunt_poke_put_back(struct poke_batch *b, unsigned tried)
{
	put_back_by_any(b, tried);
	if (poke_is_old(b))
		return POKE_OLD;
	return is_old_or_int3(b) ? POKE_OLD_INT3 : POKE_MIXED;
}

/* Sites that do not do what the change says they do: whoever asks for it must be told. */
static void tell_if_mixed(const struct poke_batch *b)
{
	if (!is_old_or_int3(b) && b->change->mixed)
		b->change->mixed(b->change);
}

/* All that a copy can do about a poke that was not over. */
static void take_back(struct poke_batch *b)
{
	b->change->revert(b->change);
	if (shunt_port_text_check(&b->pokes[0].to, b->n, sizeof(b->pokes[0]))) {
		if (b->change->mixed) /* it cannot be seen */
			b->change->mixed(b->change);
		return;
	}
	b->tails_unknown = true;
	put_back_by_any(b, 0);
	tell_if_mixed(b);
}

/* By one way after the other. */
static int poke_by_any(struct poke_batch *b)
{
	enum poke_next next = NEXT_WAY;
	unsigned tried = 0;
	int ret = 0;

	while (next == NEXT_WAY) {
		int way = shunt_port_poke_begin(b->n, b->flips == b->n, tried);
		bool failed;

		if (way < 0 && !tried)
			return fail(b->report, NULL, "make ready to poke", way);
		if (way < 0) {
			if (way != -SHUNT_ENOSYS) /* there is one, but not now */
				ret = b->report->error = way;
			break;
		}
		failed = tried && put_back(b, (enum shunt_way)way);
		tried |= 1u << way;
		if (!failed) {
			b->report->error = 0; /* what another way has failed in did no harm */
			next = poke_by(b, (enum shunt_way)way, &ret);
		}
		shunt_port_poke_end();
		if (failed)
			break;
	}
	if (next == DONE && b->state == POKE_NEW)
		return 0;
	if ((next == NEXT_WAY || next == PUT_BACK) && !poke_is_old(b))
		put_back_by_any(b, tried);
	if (next != TELL_ELSE)
		tell_what_is_left(b);
	if (next == DONE)
		return 0;
	tell_if_mixed(b);
	return ret;
}

int shunt_poke_batch(struct shunt_poke *pokes, size_t n, struct shunt_change *change,
		     struct shunt_report *report)
{
	struct poke_batch *b = &going_on;
	int ret;

	if (!is_sorted(pokes, n))
		shunt_sort(pokes, n, sizeof(pokes[0]), address);
	ret = shunt_port_text_check(&pokes[0].to, n, sizeof(pokes[0]));
	if (ret)
		return fail(report, pokes, "read the sites", ret);
	ret = check_overlaps(pokes, n, report);
	if (!ret)
		ret = verify(pokes, n, report);
	if (ret)
		return ret;
	if (!n) {
		change->commit(change);
		if (change->done)
			change->done(change);
		return 0;
	}
	*b = (struct poke_batch){.pokes = pokes, .change = change, .report = report};
	b->flips = part_flips(pokes, n);
	atomic_signal_fence(memory_order_release); /* a copy finds it whole, or not at all */
	b->n = n;
	ret = poke_by_any(b);
	if (!ret) {
		shunt_poke_count(&shunt_poke_stats.pokes, 1);
		b->state = POKE_OVER;
		if (change->done)
			change->done(change);
	}
	b->n = 0;
	return ret;
}

void shunt_poke_repair(void)
{
	struct poke_batch *b = &going_on;
	bool is_over = b->state == POKE_OVER;

	/* Writes that the thread had not handed to the port: no update may ever do so. */
	shunt_write_queue.n = 0;
	shunt_write_queue.bytes = 0;
	if (!b->n)
		return;
	if (is_over && b->change->done)
		b->change->done(b->change);
	if (!is_over)
		take_back(b);
	b->n = 0;
}
