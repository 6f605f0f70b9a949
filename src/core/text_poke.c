/* SPDX-License-Identifier: MIT */
/*
 * Pokes for others: sites that are nobody's key. Each has a record with the
 * instruction that it is to have, in one word, so that a trap handler reads it whole.
 *
 * Lifetime: records are never freed, and a site that is forgotten keeps its record
 * for the next one at that address. They are found through a hash table, of which
 * there is a bigger one when it fills up; the smaller ones stay, because a handler may
 * still be looking there. Together they are no bigger than the last one.
 */
#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/poke.h"
#include "core/key.h"
#include "core/text_poke.h"

struct text_site {
	uintptr_t addr;
	_Atomic uint64_t insn; /* packed; 0: forgotten */
	struct shunt_site site;
	uint64_t next_insn; /* what the poke in progress commits; update lock */
	uint64_t last_insn; /* what it would go back to */
};

struct hash {
	size_t size; /* a power of 2 */
	size_t n;
	struct text_site *_Atomic slots[];
};

static struct hash *_Atomic hash;

/* ------------------------------------------------------ an instruction in a word */

/* Whether the target goes into 48 bits: with five levels of page tables some do not. */
static bool fits(const struct shunt_insn *insn)
{
	return (uintptr_t)((int64_t)(insn->target << 16) >> 16) == insn->target;
}

/* op, len and cc in four bits each, the target in 48. */
static uint64_t pack(const struct shunt_insn *insn)
{
	return (uint64_t)insn->op | (uint64_t)insn->len << 4 | (uint64_t)insn->cc << 8 |
	       (uint64_t)insn->target << 16;
}

static void unpack(uint64_t word, struct shunt_insn *insn)
{
	insn->op = word & 0xf;
	insn->len = word >> 4 & 0xf;
	insn->cc = word >> 8 & 0xf;
	insn->target = (uintptr_t)((int64_t)word >> 16);
}

/*
 * The instruction of exactly @len bytes at @bytes, as it stands at @addr. Behind a
 * ret or a jmp there may be bytes that are never reached. -ERANGE: its target is too far.
 */
static int decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word)
{
	struct shunt_insn insn;
	int ret = shunt_insn_decode(bytes, len, addr, &insn);

	if (ret < 0 || insn.op == SHUNT_OP_INT3)
		return -SHUNT_EINVAL;
	if ((size_t)ret != len && insn.op != SHUNT_OP_RET && insn.op != SHUNT_OP_JMP)
		return -SHUNT_EINVAL;
	if (!fits(&insn))
		return -SHUNT_ERANGE;
	*word = pack(&insn);
	return 0;
}

/* ------------------------------------------------------------------- the table */

static size_t slot_of(const struct hash *h, uintptr_t addr)
{
	return (size_t)(addr * 0x9e3779b97f4a7c15u >> 32) & (h->size - 1);
}

static struct text_site *look_up(const struct hash *h, uintptr_t addr)
{
	if (!h)
		return NULL;
	for (size_t i = slot_of(h, addr);; i = (i + 1) & (h->size - 1)) {
		/* Pairs with insert(). */
		struct text_site *s = atomic_load_explicit(&h->slots[i], memory_order_acquire);

		if (!s || s->addr == addr)
			return s;
	}
}

static void insert(struct hash *h, struct text_site *s)
{
	size_t i = slot_of(h, s->addr);

	while (atomic_load_explicit(&h->slots[i], memory_order_relaxed))
		i = (i + 1) & (h->size - 1);
	/* Pairs with look_up(). */
	atomic_store_explicit(&h->slots[i], s, memory_order_release);
	h->n++;
}

/* Room for one more; update lock held. */
static struct hash *make_room(void)
{
	struct hash *old = atomic_load_explicit(&hash, memory_order_relaxed);
	size_t size = old ? 2 * old->size : 256;
	struct hash *new;

	if (old && 2 * (old->n + 1) <= old->size)
		return old;
	new = shunt_port_alloc(sizeof(*new) + size * sizeof(new->slots[0]));
	if (!new)
		return NULL;
	new->size = size;
	for (size_t i = 0; old && i < old->size; i++) {
		struct text_site *s = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

		if (s)
			insert(new, s);
	}
	/* Pairs with shunt_text_site_find(). */
	atomic_store_explicit(&hash, new, memory_order_release);
	return new;
}

/* Records come in blocks; update lock held. */
static struct text_site *new_record(void)
{
	enum { BLOCK = 64 };
	static struct text_site *block;
	static size_t left;

	if (!left) {
		block = shunt_port_alloc(BLOCK * sizeof(*block));
		if (!block)
			return NULL;
		left = BLOCK;
	}
	left--;
	return block++;
}

/* The record for the site at @addr, new or not; NULL: no memory. */
static struct text_site *record_for(uintptr_t addr)
{
	struct hash *h = atomic_load_explicit(&hash, memory_order_relaxed);
	struct text_site *s = look_up(h, addr);

	if (s)
		return s;
	h = make_room();
	s = h ? new_record() : NULL;
	if (!s)
		return NULL;
	s->addr = addr;
	insert(h, s);
	return s;
}

struct shunt_site *shunt_text_site_find(uintptr_t addr, struct shunt_insn *insn)
{
	struct text_site *s = look_up(atomic_load_explicit(&hash, memory_order_acquire), addr);
	/* Pairs with commit(). */
	uint64_t word = s ? atomic_load_explicit(&s->insn, memory_order_acquire) : 0;

	if (!word)
		return NULL;
	unpack(word, insn);
	return &s->site;
}

/* ------------------------------------------------------------------- the batch */

struct text_change {
	struct shunt_change change;
	struct shunt_poke *pokes;
	size_t n;
};

static struct text_site *site_of(const struct shunt_poke *poke)
{
	return (struct text_site *)((char *)poke->site - offsetof(struct text_site, site));
}

static void commit(struct shunt_change *change)
{
	struct text_change *c = (struct text_change *)change;

	for (size_t i = 0; i < c->n; i++) {
		struct text_site *s = site_of(&c->pokes[i]);

		atomic_store_explicit(&s->insn, s->next_insn, memory_order_release);
	}
}

static void revert(struct shunt_change *change)
{
	struct text_change *c = (struct text_change *)change;

	for (size_t i = 0; i < c->n; i++) {
		struct text_site *s = site_of(&c->pokes[i]);

		atomic_store_explicit(&s->insn, s->last_insn, memory_order_release);
	}
}

static int refuse(struct shunt_report *report, const struct text_poke *in, const char *what,
		  int error)
{
	report->error = error;
	report->what = what;
	report->site = in->addr;
	return error;
}

static void copy(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < SHUNT_SITE_MAX; i++)
		to[i] = i < len ? from[i] : 0;
}

/*
 * What stands at the site, by the record if a poke that could not be undone has left
 * an int3 there.
 */
static int old_insn(const struct text_poke *in, const struct text_site *s, uint64_t *word)
{
	if (atomic_load_explicit(&s->site.poked, memory_order_relaxed)) {
		*word = atomic_load_explicit(&s->insn, memory_order_relaxed);
		return 0;
	}
	/* That @old is what stands there is seen to by the poke. */
	return decode(in->old ? in->old : in->addr, in->len, (uintptr_t)in->addr, word);
}

static int new_insn(const struct text_poke *in, uint64_t *word)
{
	uintptr_t addr = (uintptr_t)in->addr;
	int ret = decode(in->insn, in->len, addr, word);

	return ret || !in->emulate ? ret : decode(in->emulate, in->len, addr, word);
}

/* Whether the instruction that @s has been poked to still stands there. */
static bool is_still_there(const struct text_site *s, uint64_t is, size_t len)
{
	struct shunt_write at = {.addr = (uint8_t *)s->addr, .len = (uint8_t)len};
	uint64_t word;

	if (atomic_load_explicit(&s->site.poked, memory_order_relaxed))
		return true;
	return !shunt_port_text_check(&at, 1, sizeof(at)) &&
	       !decode((const uint8_t *)s->addr, len, s->addr, &word) && word == is;
}

/*
 * Whether a site at @addr would have a byte of another one, of an earlier call. Where the program
 * has put something else there since, without text_poke_forget(), that is none any more.
 */
static bool is_in_another(uintptr_t addr, size_t len)
{
	const struct hash *h = atomic_load_explicit(&hash, memory_order_relaxed);

	for (uintptr_t at = addr - SHUNT_SITE_MAX + 1; at != addr + len; at++) {
		struct text_site *s = at == addr ? NULL : look_up(h, at);
		uint64_t word = s ? atomic_load_explicit(&s->insn, memory_order_relaxed) : 0;
		struct shunt_insn insn;

		if (!word)
			continue;
		unpack(word, &insn);
		if ((at > addr || addr - at < insn.len) && is_still_there(s, word, insn.len))
			return true;
	}
	return false;
}

static int prepare(const struct text_poke *in, struct shunt_poke *out, struct shunt_report *report)
{
	uintptr_t addr = (uintptr_t)in->addr;
	struct shunt_write at = {0};
	struct text_site *s;
	int ret;

	if (!in->addr || !in->insn || !in->len || in->len > SHUNT_SITE_MAX)
		return refuse(report, in, "text_poke: bad address or length", -SHUNT_EINVAL);
	if (shunt_site_touched(addr, in->len))
		return refuse(report, in, "text_poke: the site belongs to a key", -SHUNT_EINVAL);
	at.addr = in->addr;
	at.len = (uint8_t)in->len;
	ret = shunt_port_text_check(&at, 1, sizeof(at));
	if (ret)
		return refuse(report, in, "text_poke: read the site", ret);
	if (is_in_another(addr, in->len))
		return refuse(report, in, "text_poke: the site overlaps one of an earlier call",
			      -SHUNT_EINVAL);
	s = record_for(addr);
	if (!s)
		return refuse(report, in, "text_poke: allocate a record", -SHUNT_ENOMEM);
	ret = old_insn(in, s, &s->last_insn);
	if (ret)
		return refuse(report, in, "text_poke: the old instruction cannot be emulated", ret);
	ret = new_insn(in, &s->next_insn);
	if (ret)
		return refuse(report, in, "text_poke: the new instruction cannot be emulated", ret);
	out->addr = in->addr;
	out->site = &s->site;
	out->len = (uint8_t)in->len;
	copy(out->old, in->old ? in->old : in->addr, in->len);
	copy(out->new, in->insn, in->len);
	return 0;
}

static int poke_locked(const struct text_poke *in, struct shunt_poke *pokes, size_t n,
		       struct shunt_report *report)
{
	struct text_change change = {{commit, revert, NULL}, pokes, n};

	for (size_t i = 0; i < n; i++) {
		int ret = prepare(&in[i], &pokes[i], report);

		if (ret)
			return ret;
	}
	/* What the handler emulates until the commit. */
	revert(&change.change);
	return shunt_poke_batch(pokes, n, &change.change, report);
}

int text_poke_bp_batch(const struct text_poke *in, size_t n)
{
	static struct shunt_poke few[8]; /* update lock */
	bool is_few = n <= sizeof(few) / sizeof(few[0]);
	struct shunt_report report = {0};
	struct shunt_poke *pokes;
	int ret;

	if (!n)
		return 0;
	if (!in)
		return shunt_refuse("text_poke: no pokes", NULL);
	ret = shunt_port_lock();
	if (ret) {
		report.what = ret == -SHUNT_EDEADLK
				      ? "text_poke within an update of the same thread"
				      : "take the update lock";
		return shunt_finish(&report, ret);
	}
	shunt_port_sites_wanted(); /* those of keys are refused */
	pokes = is_few ? few : shunt_port_alloc(n * sizeof(*pokes));
	if (pokes) {
		ret = poke_locked(in, pokes, n, &report);
		if (!is_few)
			shunt_port_free(pokes, n * sizeof(*pokes));
	} else {
		report.what = "text_poke: allocate a batch";
		ret = -SHUNT_ENOMEM;
	}
	shunt_port_unlock();
	return shunt_finish(&report, ret);
}

int(text_poke_bp)(void *addr, const void *insn, size_t len, const void *emulate)
{
	struct text_poke one = {addr, insn, len, NULL, emulate};

	return text_poke_bp_batch(&one, 1);
}

static void forget(struct text_site *s)
{
	atomic_store_explicit(&s->insn, 0, memory_order_release);
	atomic_store_explicit(&s->site.poked, 0, memory_order_release);
}

/* By address or by record, whichever are fewer. */
void text_poke_forget(const void *addr, size_t len)
{
	const struct hash *h;

	if (shunt_port_lock())
		return;
	h = atomic_load_explicit(&hash, memory_order_relaxed);
	for (size_t i = 0; h && len < h->size && i < len; i++) {
		struct text_site *s = look_up(h, (uintptr_t)addr + i);

		if (s)
			forget(s);
	}
	for (size_t i = 0; h && len >= h->size && i < h->size; i++) {
		struct text_site *s = atomic_load_explicit(&h->slots[i], memory_order_relaxed);

		if (s && s->addr - (uintptr_t)addr < len)
			forget(s);
	}
	shunt_port_unlock();
}
