/* SPDX-License-Identifier: MIT */
/*
 * Records of sites that are nobody's key (text_poke.c makes them). Each has the
 * instruction that it is to have, in one word, so that a trap handler reads it whole.
 *
 * Lifetime: records are never freed, and a site that is forgotten keeps its record
 * for the next one at that address. They are found through a hash table, of which
 * there is a bigger one when it fills up; the smaller ones stay, because a handler may
 * still be looking there. Together they are no bigger than the last one.
 */
#include "core/text_site.h"

#include <shunt/port.h>

#include "core/error.h"

struct hash {
	size_t size; /* a power of 2 */
	size_t n;
	struct shunt_text_site *_Atomic slots[];
};

static struct hash *_Atomic hash;

/* ------------------------------------------------------ an instruction in a word */

/* Whether the target goes into 48 bits: with five levels of page tables some do not. */
static bool fits(const struct shunt_insn *insn)
{
	return shunt_address_of(insn->target) == insn->target;
}

/* op, len and cc in four bits each, the target in 48. */
static uint64_t pack(const struct shunt_insn *insn)
{
	return (uint64_t)insn->op | (uint64_t)insn->len << 4 | (uint64_t)insn->cc << 8 |
	       (uint64_t)insn->target << 16;
}

void shunt_text_insn_unpack(uint64_t word, struct shunt_insn *insn)
{
	insn->op = word & 0xf;
	insn->len = word >> 4 & 0xf;
	insn->cc = word >> 8 & 0xf;
	insn->target = shunt_address_of(word >> 16);
}

int shunt_text_insn_decode(const uint8_t *bytes, size_t len, uintptr_t addr, uint64_t *word)
{
	struct shunt_insn insn;
	int ret = shunt_insn_decode(bytes, len, addr, &insn);

	if (len % SHUNT_INSN_ALIGN || addr % SHUNT_INSN_ALIGN)
		return -SHUNT_EINVAL;
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

/* Sites of the same 64 bytes of text side by side: a poke looks for all that it could overlap. */
static size_t slot_of(const struct hash *h, uintptr_t addr)
{
	return ((size_t)((addr >> 6) * 0x9e3779b97f4a7c15u >> 32) + (addr & 63)) & (h->size - 1);
}

static struct shunt_text_site *look_up(const struct hash *h, uintptr_t addr)
{
	if (!h)
		return NULL;
	for (size_t i = slot_of(h, addr);; i = (i + 1) & (h->size - 1)) {
		/* Pairs with insert(). */
		struct shunt_text_site *s =
			atomic_load_explicit(&h->slots[i], memory_order_acquire);

		if (!s || s->addr == addr)
			return s;
	}
}

static void insert(struct hash *h, struct shunt_text_site *s)
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
		struct shunt_text_site *s =
			atomic_load_explicit(&old->slots[i], memory_order_relaxed);

		if (s)
			insert(new, s);
	}
	/* Pairs with shunt_text_site_find(). */
	atomic_store_explicit(&hash, new, memory_order_release);
	return new;
}

/* Records come in blocks; update lock held. */
static struct shunt_text_site *new_record(void)
{
	enum { BLOCK = 64 };
	static struct shunt_text_site *block;
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

struct shunt_text_site *shunt_text_site_at(uintptr_t addr)
{
	return look_up(atomic_load_explicit(&hash, memory_order_relaxed), addr);
}

struct shunt_text_site *shunt_text_site_make(uintptr_t addr)
{
	struct hash *h = atomic_load_explicit(&hash, memory_order_relaxed);
	struct shunt_text_site *s = look_up(h, addr);

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
	struct shunt_text_site *s =
		look_up(atomic_load_explicit(&hash, memory_order_acquire), addr);
	/* Pairs with commit() of text_poke.c. */
	uint64_t word = s ? atomic_load_explicit(&s->insn, memory_order_acquire) : 0;

	if (!word)
		return NULL;
	shunt_text_insn_unpack(word, insn);
	return &s->site;
}

static void forget(struct shunt_text_site *s)
{
	atomic_store_explicit(&s->insn, 0, memory_order_release);
	atomic_store_explicit(&s->site.poked, 0, memory_order_release);
}

/* By address or by record, whichever are fewer. */
void shunt_text_sites_forget(uintptr_t addr, size_t len)
{
	const struct hash *h = atomic_load_explicit(&hash, memory_order_relaxed);

	for (size_t i = 0; h && len < h->size && i < len; i++) {
		struct shunt_text_site *s = look_up(h, addr + i);

		if (s)
			forget(s);
	}
	for (size_t i = 0; h && len >= h->size && i < h->size; i++) {
		struct shunt_text_site *s =
			atomic_load_explicit(&h->slots[i], memory_order_relaxed);

		if (s && s->addr - addr < len)
			forget(s);
	}
}
