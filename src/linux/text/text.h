/* SPDX-License-Identifier: MIT */
/*
 * Writing text: which way a batch is poked (way.c), and by which writer its bytes get there
 * (text.c).
 */
#ifndef SHUNT_LINUX_TEXT_H
#define SHUNT_LINUX_TEXT_H

#include <stdbool.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

/*
 * text.c: make ready for a batch of @n sites, and tidy up after it. @may_run: what is between the
 * sites may be written again, as it is. Update lock held.
 */
void shunt_text_begin(size_t n, enum shunt_way way, bool may_run);
void shunt_text_end(void);

/*
 * text.c, for the self-test: the batch that has begun has no other way, so that either writer
 * serves; and later ones begin with the writer that they would have without it. Update lock held.
 */
void shunt_text_try_out(void);

/* text.c: this is a copy of the process, with the parent's descriptors. Update lock held. */
void shunt_text_copied(void);

/* text.c: close all descriptors that stay open: this library is unloaded. Update lock held. */
void shunt_text_close(void);

/* The number of the page that @addr is on. */
static inline uintptr_t shunt_text_page(const uint8_t *addr)
{
	return (uintptr_t)addr / 4096;
}

/*
 * text.c: @len bytes to @addr, through /proc/self/mem. Update lock held, within a batch.
 * Returns 0 or an error.
 */
int shunt_text_write_mem(const uint8_t *addr, const void *bytes, size_t len);

/* way.c: the policy, the last batch's way, and why not another: for shunt_get_ways(). */
void shunt_poke_way(struct shunt_ways *ways);

/*
 * way.c, for the self-test: whether the policy may come to @way; have the next batches go
 * that way and no other, or as the policy says again. Update lock held.
 */
#define SHUNT_ANY_WAY (-1)
bool shunt_way_is_allowed(enum shunt_way way);
void shunt_force_way(int way);

/* way.c: whether the policy is one that needs traps. */
bool shunt_wants_traps(void);

/* text.c: the writer in use, for shunt_get_ways(). */
const char *shunt_text_writer(void);

/* lock.c: what has been left to be done without the update lock, and those of tracing. */
void shunt_do_after_unlock(void);

#endif
