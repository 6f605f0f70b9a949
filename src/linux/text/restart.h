/* SPDX-License-Identifier: MIT */
/*
 * System calls as the last steps of restartable sequences (rseq(2)): they are not made where the
 * thread has been stopped, or without a CPU, since it named the sequence, for then others may have
 * written what it has looked at. remap.S, write.S; where a thread names its sequence, restart.c.
 */
#ifndef SHUNT_LINUX_RESTART_H
#define SHUNT_LINUX_RESTART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHUNT_REMAP_DISTURBED 1
#define SHUNT_WRITE_DISTURBED (-85) /* ERESTART, which no system call returns */

/* The struct rseq_cs of each. */
extern const char shunt_remap_sequence[];
extern const char shunt_write_sequence[];

/*
 * mremap() @len bytes of @copy to @start, provided that *@begun still is
 * &shunt_remap_sequence. Returns what the kernel returns; or SHUNT_REMAP_DISTURBED, with
 * nothing done.
 */
long shunt_remap_move(void *copy, size_t len, uintptr_t start, const uint64_t *begun);

/* The same of pwrite(@fd, @bytes, @len, @offset), &shunt_write_sequence, SHUNT_WRITE_DISTURBED. */
long shunt_write_undisturbed(long fd, const void *bytes, size_t len, uintptr_t offset,
			     const uint64_t *begun);

/*
 * Where this thread names the sequence that it is in, and the kernel clears that when it stops the
 * thread elsewhere. Where that is not to be had, or with @can_restart false, a word that nobody
 * clears. Whoever sets it to a sequence sets it to 0 again: the kernel reads it at any time, and
 * libshunt may be unloaded. Update lock held.
 */
uint64_t *shunt_begun(bool can_restart);

#endif
