/* SPDX-License-Identifier: MIT */
/*
 * Files of the library's own in a program that has descriptors too (descriptor.c). Never
 * 0, 1 or 2: a program that was started with these closed would write its output there.
 * By system calls alone; errno is left alone.
 */
#ifndef SHUNT_LINUX_DESCRIPTOR_H
#define SHUNT_LINUX_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "linux/base/syscall.h"

/* Open @path with @flags and O_CLOEXEC, for a moment. A descriptor above 2, or -errno. */
int shunt_fd_open(const char *path, int flags);
void shunt_fd_close(int fd);

/*
 * Whether @fd is of procfs, and not of something else that is where /proc should be: in a chroot()
 * whoever may write there decides what that is. True where filters keep it from being seen.
 */
bool shunt_fd_is_proc(int fd);

/*
 * Open @path to be kept: at a number that programs seldom ask for, at a file offset that no
 * other open file is at, which is in *fd_offset. It is read and written by pread() and the like.
 * Where the file could be opened, and not be put there, shunt_failed_call is "lseek".
 */
int shunt_fd_open_kept(const char *path, int flags, int64_t *fd_offset);

/*
 * Whether @fd still is the one that was opened so: to be asked before each use, and before
 * it is closed, because a program that closes all descriptors gives the number to a file
 * of its own.
 */
bool shunt_fd_is_kept(int fd, int64_t fd_offset);

/*
 * @fd was kept, and is not at its offset: whether another file has its number, or it has been moved
 * and stays open for good, is not seen. So who moves the offsets of all descriptors, or has a child
 * that shares them and does, would have one more with each update: from so many times on, which are
 * counted here, one is closed behind its use.
 */
#define SHUNT_MAX_LOSSES 8
static inline void shunt_fd_count_loss(int fd, unsigned *losses)
{
	if (*losses < SHUNT_MAX_LOSSES && shunt_syscall(SYS_lseek, fd, 0, SEEK_CUR, 0) >= 0)
		++*losses;
}

#endif
