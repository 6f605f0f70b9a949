/* SPDX-License-Identifier: MIT */
/*
 * /proc/self/mem, through which memory is written past the protection of its pages (proc_mem.c).
 * Update lock held.
 */
#ifndef SHUNT_LINUX_PROC_MEM_H
#define SHUNT_LINUX_PROC_MEM_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

/* @len bytes to @addr, all or none. 0 or -errno, with shunt_failed_call set. */
int shunt_proc_mem_write(const uint8_t *addr, const void *bytes, size_t len);

/*
 * The same, unless this thread has been stopped since *@begun was set (restart.h): then
 * SHUNT_WRITE_DISTURBED, and nothing is written.
 */
int shunt_proc_mem_write_undisturbed(const uint8_t *addr, const void *bytes, size_t len,
				     const uint64_t *begun);

/*
 * Whether a write that is said to have been made has been: what is mounted at /proc may not be the
 * kernel's, and a filter's supervisor may answer in the kernel's place. Before it, a byte that it
 * changes; behind it, 0 or -EPERM, with shunt_failed_call set, where that is as it was. (What else
 * stands there then is another writer's, a debugger's for one.) The text can be read.
 */
struct shunt_probe {
	const uint8_t *at; /* NULL: it changes none */
	uint8_t was;
};

struct shunt_probe shunt_proc_mem_probe(const struct shunt_write *write);
int shunt_proc_mem_check(struct shunt_probe probe);

/*
 * Whether the descriptor that is kept leads to this memory and not to that of the process that
 * this one is a copy of: 1 or 0; -1: there is none, or it does not tell.
 */
int shunt_proc_mem_is_own(void);

/* The descriptor in a copy of the process, and where this library is unloaded (proc_file.h). */
void shunt_proc_mem_copied(void);
void shunt_proc_mem_close(void);

#endif
