/* SPDX-License-Identifier: MIT */
/* The update lock in a child that runs in its parent's memory (robust.c). */
#ifndef SHUNT_LINUX_ROBUST_H
#define SHUNT_LINUX_ROBUST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the kernel was told before. */
struct shunt_robust {
	bool is_on;
	void *head;
};

/*
 * From here on, should this task end: where @word (of a lock) has its number in it, the kernel puts
 * FUTEX_OWNER_DIED there in its place, and wakes one who waits; likewise where @word is 0. Nothing
 * happens where a filter refuses it. And no longer. Async-signal-safe.
 */
void shunt_robust_begin(struct shunt_robust *before, _Atomic uint32_t *word);
void shunt_robust_end(struct shunt_robust *before);

#endif
