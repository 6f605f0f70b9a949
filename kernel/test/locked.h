/* SPDX-License-Identifier: MIT */
/* Calls emulated from the site's own bytes (locked.c). */
#ifndef KERNEL_LOCKED_H
#define KERNEL_LOCKED_H

#include <stddef.h>
#include <stdint.h>

/* Calls that have been emulated so, and those that went elsewhere than by the key. */
struct locked_reads {
	_Atomic uint64_t calls, ahead;
};
extern struct locked_reads locked_reads;

/*
 * Write to text by xchg, where @len is 1, 2 or 4: whoever reads by a locked load never sees half,
 * not even across a cache line. (There it is a split lock.)
 */
void locked_write(void *addr, const void *bytes, size_t len);

#endif
