/* SPDX-License-Identifier: MIT */
/*
 * A batch of pokes on its way (poke.c), and the ways that it goes: by int3 or single
 * writes (poke_int3.c), by new pages (poke_remap.c), by single bytes (poke_flip.c). Update lock
 * held.
 */
#ifndef SHUNT_CORE_POKE_BATCH_H
#define SHUNT_CORE_POKE_BATCH_H

#include "core/poke_write.h"

/* Where a batch stands. From one to the next: poke_by(); by a failure: after_failure(). */
enum poke_state {
	POKE_READY,     /* nothing is written, in the way that is being tried */
	POKE_WRITING,   /* each int3 has the old effect; text is anything between old and new */
	POKE_COMMITTED, /* each int3 has the new effect, and every call soon */
	POKE_NEW,       /* every site is the new instruction */
	POKE_NEW_INT3,  /* or left on an int3 with its effect: as good, and told */
	POKE_OVER,      /* and all that is missing is change->done() */
	POKE_OLD,       /* failed: every site is what it was */
	POKE_OLD_INT3,  /* failed: sites are left on an int3 with the effect of the old instruction
			 */
	POKE_MIXED,     /* failed: sites are left changed, without an int3 */
	POKE_OLD_AGAIN, /* failed: another way has undone what the first could not undo */
	POKE_UNSEEN,    /* failed: every site is what it was, but no core sync has followed */
};

struct poke_batch {
	struct shunt_poke *pokes;
	size_t n;     /* 0: there is none */
	size_t flips; /* the last ones of @pokes: of each changes the first byte alone */
	struct shunt_change *change;
	struct shunt_report *report;
	enum poke_state state;
	const char *step;   /* that has failed, in words */
	bool sync_failed;   /* it was a core sync, which every way needs */
	bool tails_unknown; /* sites were left on an int3: no sync has followed their tails */
	bool no_int3;       /* each site goes by one write */
};

/* poke_int3.c: forward; back to the old bytes; and, however it went, the end of trapping. */
int shunt_poke_int3(struct poke_batch *b, enum shunt_way way);
int shunt_poke_int3_back(struct poke_batch *b, enum shunt_way way);
void shunt_poke_end_traps(const struct poke_batch *b);

/* poke_remap.c: forward; back to the old bytes, where they are not there. */
int shunt_poke_remap(struct poke_batch *b);
int shunt_poke_remap_back(struct poke_batch *b);

/* poke_flip.c: whether @p is one; forward, all of the batch; back to the old bytes. */
bool shunt_poke_is_flip(const struct shunt_poke *p);
int shunt_poke_flip(struct poke_batch *b);
int shunt_poke_flip_back(struct poke_batch *b);

/* The flips of a batch that goes another way: their bytes are written. */
int shunt_poke_write_flips(const struct poke_batch *b);

/* The old first bytes of those of @n sites that are new, each that can be written. 0 or an error.
 */
int shunt_poke_write_flips_back(const struct shunt_poke *pokes, size_t n);

/*
 * poke.c: put a batch back by one way after the other until one works, but none of @tried.
 * Returns POKE_OLD, POKE_OLD_INT3 or POKE_MIXED.
 */
enum poke_state shunt_poke_put_back(struct poke_batch *b, unsigned tried);

/* poke.c: what a message says of them; NULL: nothing. */
const char *shunt_poke_what_is_left(enum poke_state state);

/* trap.c: a poke has ended; before the marks of its sites go. */
void shunt_trap_poke_ended(void);

/* Remember the step that failed. */
static inline int poke_step(struct poke_batch *b, const char *name, int ret)
{
	if (ret)
		b->step = name;
	return ret;
}

static inline int poke_sync_step(struct poke_batch *b, const char *name)
{
	int ret = poke_step(b, name, shunt_poke_sync());

	b->sync_failed = ret != 0;
	return ret;
}

/*
 * Every call from here on is the new one: each site traps, or soon is new. Said to be
 * committed before it is, because what is not there cannot be taken back too often.
 */
static inline void poke_commit(struct poke_batch *b)
{
	b->state = POKE_COMMITTED;
	b->change->commit(b->change);
}

static inline void poke_revert(struct poke_batch *b)
{
	if (b->state != POKE_COMMITTED)
		return;
	b->change->revert(b->change);
	b->state = POKE_WRITING;
}

static inline bool poke_owns_int3(const struct shunt_poke *p)
{
	return atomic_load_explicit(&p->site->poked, memory_order_relaxed);
}

/* Those that are no flips: all of them, where no others are to be. */
static inline size_t poke_others(const struct poke_batch *b)
{
	return b->flips < b->n ? b->n - b->flips : b->n;
}

static inline bool poke_is_old(const struct poke_batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (shunt_word_now(&b->pokes[i]) != shunt_word_wanted(&b->pokes[i], true))
			return false;
	return true;
}

#endif
