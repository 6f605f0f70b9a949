/* SPDX-License-Identifier: MIT */
/* Batches of pokes at entries of function tracing. Ftrace and update lock held. */
#ifndef SHUNT_CORE_FTRACE_BATCH_H
#define SHUNT_CORE_FTRACE_BATCH_H

#include "core/ftrace_internal.h"

/* Of the call that an entry becomes; where it returns to, in bytes from the entry. */
#define SHUNT_CALL_LEN SHUNT_PLAIN_LEN

struct shunt_ftrace_batch {
	struct shunt_change change; /* the first, so that it leads here */
	struct shunt_poke *pokes;
	size_t n, max;
};

/* Room for @max pokes; false: no memory. */
bool shunt_ftrace_batch_begin(struct shunt_ftrace_batch *b, size_t max);
void shunt_ftrace_batch_end(struct shunt_ftrace_batch *b);

/*
 * Add a poke of @len bytes at @ip. @old may be bytes that nothing leads to. 0, or an error with
 * report->site and what.
 */
int shunt_ftrace_batch_add(struct shunt_ftrace_batch *b, uintptr_t ip, unsigned len,
			   const uint8_t *old, const uint8_t *new, struct shunt_report *report);

/* struct shunt_change: what the trap handler emulates at the entries. */
void shunt_ftrace_commit_text(struct shunt_change *change);
void shunt_ftrace_revert_text(struct shunt_change *change);

/*
 * Make entries that are no such instruction yet (shunt_entry.prepare) one (ftrace_prepare.c).
 * That stays so, also where the change that it was for fails. 0 or an error.
 */
int shunt_ftrace_prepare(struct shunt_entry **entries, size_t n, struct shunt_report *report);

/* Without memcpy(). */
static inline void shunt_ftrace_copy(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = from[i];
}

#endif
