/* SPDX-License-Identifier: MIT */
/*
 * What the files of the Linux port tell each other. The port itself is
 * <shunt/port.h>: text.c writes, sync.c synchronises, trap.c takes traps, lock.c
 * locks, memory.c allocates, report.c reports; module.c finds the sites.
 */
#ifndef SHUNT_LINUX_LINUX_H
#define SHUNT_LINUX_LINUX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/static_call.h"

/*
 * State that a child made by fork(), or by a raw clone() that no atfork handler
 * sees, must not inherit: the kernel clears this page in a child (MADV_WIPEONFORK).
 */
struct shunt_process {
	_Atomic uint32_t lock;     /* lock.c: 0, or tid of the owner | waiters */
	int32_t mem_fd;            /* text.c: descriptor of /proc/self/mem + 1; 0: not open */
	uint64_t mem_dev, mem_ino; /* text.c: what fstat() says of it */
};

/* This process's page. Never NULL: without memory it is a static one. */
struct shunt_process *shunt_process(void);

/* The system call that failed last on this thread, for the message of the failure. */
extern __thread const char *shunt_failed_call;

/* text.c: look whether the descriptor is still good. Once a batch; update lock held. */
void shunt_text_begin(void);

/* text.c, sync.c: the way in use, for shunt_get_ways(). */
const char *shunt_text_way(void);
const char *shunt_sync_way(void);

/* trap.c: sums over all CPUs. */
void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign);

/* report.c: pass a finished line on; also keeps it for shunt_last_error(). */
void shunt_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A module that has registered. Records are reused, never freed. */
struct shunt_loaded {
	struct shunt_loaded *next;
	const struct shunt_module *module; /* its descriptor; NULL: record not in use */
	uintptr_t bias;                    /* load bias, bytes */
	char *path;                        /* its file */
	const char *why;                   /* why its sites are not known; NULL: they are */
	struct static_call_table calls;
};

/* module.c: the list, to be read with the update lock held. */
struct shunt_loaded *shunt_first_loaded(void);

/* A file mapped to be read; size 0: not mapped. */
struct shunt_file {
	const void *image;
	size_t size;
};

/* file.c: 0 or -errno, with shunt_failed_call set. */
int shunt_file_map(struct shunt_file *file, const char *path);
void shunt_file_unmap(struct shunt_file *file);

#endif
