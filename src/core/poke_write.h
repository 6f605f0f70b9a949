/* SPDX-License-Identifier: MIT */
/* Writes on their way to the port, and the bytes of a site as a number. Update lock held. */
#ifndef SHUNT_CORE_POKE_WRITE_H
#define SHUNT_CORE_POKE_WRITE_H

#include "core/poke.h"

struct shunt_write_queue {
	struct shunt_write w[256];
	size_t n, bytes;
};
extern struct shunt_write_queue shunt_write_queue;

/* A write of @len bytes, the first lowest in @bytes; those behind them as struct shunt_write says.
 */
static inline void shunt_write_fill(struct shunt_write *w, uint8_t *addr, uint64_t bytes,
				    size_t len)
{
	uint64_t after = bytes << 8 | len;

	w->addr = addr;
	__builtin_memcpy(&w->len, &after, sizeof(after)); /* and w->bytes */
}

/* Queue one write of @len bytes, the first lowest in @bytes; flush: hand all to the port. */
int shunt_write_put(uint8_t *addr, uint64_t bytes, size_t len);
int shunt_write_put_flip(const struct shunt_poke *p, bool back);
int shunt_write_flush(void);

/* Those bytes of the tail (all but the first) that change from @from to @to, run by run. */
int shunt_write_tail(const struct shunt_poke *p, uint64_t from, uint64_t to);

/*
 * All that changes at a site in one write: for sites that need no int3, because nobody
 * else runs the text or the platform makes one store of it.
 */
int shunt_write_whole(const struct shunt_poke *p, uint64_t from, uint64_t to);

/* Core sync, counted. */
int shunt_poke_sync(void);

static inline void shunt_poke_count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer at a time, so this need not be a locked instruction. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

typedef struct {
	uint32_t value;
} __attribute__((packed, may_alias)) shunt_word32_t;

typedef struct {
	uint16_t value;
} __attribute__((packed, may_alias)) shunt_word16_t;

/* The @len bytes of a site as a number, the first lowest: compared in one step. */
static inline uint64_t shunt_site_word(const uint8_t *bytes, size_t len)
{
	uint64_t w = 0;

	if (len == 5) /* most */
		return ((const shunt_word32_t *)bytes)->value | (uint64_t)bytes[4] << 32;
	if (len == 4)
		return ((const shunt_word32_t *)bytes)->value;
	if (len == 6)
		return ((const shunt_word32_t *)bytes)->value |
		       (uint64_t)((const shunt_word16_t *)(bytes + 4))->value << 32;
	for (size_t i = 0; i < len; i++)
		w |= (uint64_t)bytes[i] << 8 * i;
	return w;
}

/* What stands at the site. */
static inline uint64_t shunt_word_now(const struct shunt_poke *p)
{
	return shunt_site_word(p->addr, p->len);
}

/* What the poke is to leave there, or with @back, to put back. */
static inline uint64_t shunt_word_wanted(const struct shunt_poke *p, bool back)
{
	return shunt_site_word(back ? p->old : p->new, p->len);
}

/*
 * Of that, what a flip writes. A single byte, only over the one that the poke has seen there: a
 * breakpoint of a debugger's may come between.
 */
static inline void shunt_write_fill_flip(struct shunt_write *w, const struct shunt_poke *p,
					 bool back)
{
	uint64_t bytes = shunt_site_word(back ? p->old : p->new, SHUNT_FLIP_LEN);

	if (SHUNT_FLIP_LEN == 1)
		bytes |= (uint64_t)(back ? p->new : p->old)[0] << 8 | SHUNT_WRITE_OVER << 16;
	shunt_write_fill(w, p->addr, bytes, SHUNT_FLIP_LEN);
}

/* All but the first byte. */
static inline uint64_t shunt_word_tail(uint64_t w)
{
	return w & ~(uint64_t)0xff;
}

#endif
