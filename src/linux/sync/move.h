/* SPDX-License-Identifier: MIT */
/* Threads between nops that have become one instruction (move.c). */
#ifndef SHUNT_LINUX_MOVE_H
#define SHUNT_LINUX_MOVE_H

#include <stddef.h>
#include <stdint.h>

/* Where five nops of one byte were. Never freed. */
struct shunt_left_nops {
	struct shunt_left_nops *next;
	size_t n;
	uintptr_t ips[]; /* sorted */
};

/* Make them known. Update lock held. */
void shunt_left_nops_add(struct shunt_left_nops *nops);

/* The address of the nops in whose middle @ip is; 0: of none. Async-signal-safe. */
uintptr_t shunt_nops_around(uintptr_t ip);

/*
 * Move a thread behind nops that it stands between: by the ucontext_t of a handler that it is in,
 * with what other handlers have interrupted; and the latter alone, above stack pointer @sp.
 * Async-signal-safe.
 */
void shunt_move_from_nops(void *context);
void shunt_move_below_handlers(uintptr_t sp);

#endif
