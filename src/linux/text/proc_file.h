/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc/self that are kept open, because the program may lose /proc or its right to them
 * (proc_file.c). Each is of one process: a copy of the process has the parent's descriptor, which
 * leads to the parent. Update lock held.
 */
#ifndef SHUNT_LINUX_PROC_FILE_H
#define SHUNT_LINUX_PROC_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct shunt_proc_file {
	const char *path;
	const char *open_call; /* what has failed where it cannot be opened: shunt_failed_call */
	const char *absent;    /* the same for ENOENT, which is told as ENOSYS */
	const char *denied;    /* the same for EACCES, which is told as EPERM */
	const char *not_proc;  /* the same where it is no file of procfs */
	int flags;             /* of open() */
	int last_fd;           /* that was opened last, here or in a parent; -1: none */
	int64_t fd_offset;     /* of it (descriptor.h) */
	int32_t of_thread;     /* it leads nowhere when that has ended; 0: the process's */
	uint64_t seen_alone; /* the batch (alone.h) in which it was looked at and nobody else ran */
	unsigned losses;     /* shunt_fd_count_loss() */
	int32_t *passing;    /* where it is kept until the lock is given back; NULL: for longer */
	struct shunt_proc_file *next_passing;
};

/*
 * The descriptor, opened if it is not. *slot is where this process keeps it, + 1; 0: not open; in
 * struct shunt_process, which a copy of the process finds cleared. Looked at before each use, or
 * once in a batch where nobody else runs: the program may close all descriptors in mid-batch.
 * Returns a descriptor or -errno.
 */
int shunt_proc_file_open(struct shunt_proc_file *file, int32_t *slot);

/* Whether *slot names a descriptor that still is the file's. */
bool shunt_proc_file_is_open(const struct shunt_proc_file *file, const int32_t *slot);

/*
 * In a copy of the process: close the parent's, which leads to the parent's memory whatever
 * privileges the child gives up, and open one of its own while that can be done.
 */
void shunt_proc_file_copied(struct shunt_proc_file *file, int32_t *slot);

void shunt_proc_file_close(struct shunt_proc_file *file, int32_t *slot);

/* The lock is about to be given back: close those that are not kept. */
void shunt_proc_files_done(void);

#endif
