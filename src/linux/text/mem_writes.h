/* SPDX-License-Identifier: MIT */
/* Writes of text through /proc/self/mem (mem_writes.c). */
#ifndef SHUNT_LINUX_MEM_WRITES_H
#define SHUNT_LINUX_MEM_WRITES_H

#include <stdbool.h>
#include <stddef.h>

#include <shunt/port.h>

/*
 * Make @n writes, sorted by address; @in_runs: what is between them in plain text may be written
 * again, as it is. Returns 0; or -EBUSY, where a byte that is not to be written over stands at one
 * of them and all others are made; or another error, with any of them made. shunt_failed_call is
 * set then. Update lock held.
 */
int shunt_mem_writes(const struct shunt_write *w, size_t n, bool in_runs);

#endif
