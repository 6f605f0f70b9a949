/* SPDX-License-Identifier: MIT */
/* Of the swap of pages (swap.c): its last step, in swap.S, and what a test may set. */
#ifndef SHUNT_LINUX_SWAP_H
#define SHUNT_LINUX_SWAP_H

#include <stddef.h>
#include <stdint.h>

#define SHUNT_SWAP_DISTURBED 1

/* The struct rseq_cs of it. */
extern const char shunt_swap_sequence[];

/*
 * mremap() @len bytes of @copy to @start, provided that *@begun still is
 * &shunt_swap_sequence. Returns what the kernel returns; or SHUNT_SWAP_DISTURBED, with
 * nothing done.
 */
long shunt_swap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);

/*
 * Whether the CPU flushes others' TLBs by a broadcast: 1 or -1; 0: not asked yet. Update
 * lock.
 */
extern int shunt_swap_broadcast;

#endif
