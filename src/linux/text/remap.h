/* SPDX-License-Identifier: MIT */
/* Of the remap (remap.c): its last step, in remap.S, and what a test may set. */
#ifndef SHUNT_LINUX_REMAP_H
#define SHUNT_LINUX_REMAP_H

#include <stddef.h>
#include <stdint.h>

#define SHUNT_REMAP_DISTURBED 1

/* The struct rseq_cs of it. */
extern const char shunt_remap_sequence[];

/*
 * mremap() @len bytes of @copy to @start, provided that *@begun still is
 * &shunt_remap_sequence. Returns what the kernel returns; or SHUNT_REMAP_DISTURBED, with
 * nothing done.
 */
long shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);

/*
 * Whether the CPU flushes others' TLBs by a broadcast: 1 or -1; 0: not asked yet. Update
 * lock.
 */
extern int shunt_remap_broadcast;

#endif
