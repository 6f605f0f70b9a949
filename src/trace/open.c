/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/open.h"

enum { FD_HIGH = 600, READER_TURNS = 200 };

long trace_fd_copy(long fd)
{
	long high = shunt_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_HIGH, 0);

	return high == -EINVAL ? shunt_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0) : high;
}

long trace_fd_open(const char *path, int flags)
{
	long fd =
		shunt_syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC | O_NOCTTY, 0666);
	long high;

	if (fd < 0)
		return fd;
	high = trace_fd_copy(fd);
	if (high < 0)
		return fd;
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return high;
}

static bool is_no_file(const char *path)
{
	struct stat st = {0};

	return !shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0) &&
	       !S_ISREG(st.st_mode);
}

/* 0: it is one. -EBUSY of anything else: a pipe's reader would see its end with ours. */
static long check_device(const char *path)
{
	struct stat st = {0};
	long error = shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0);

	if (error)
		return error;
	return S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ? 0 : -EBUSY;
}

/*
 * What is there, and is no regular file. Nobody waits for ever for a pipe's reader, which may have
 * seen the end of another process's session.
 */
static long open_there(const char *path)
{
	static const struct timespec turn = {0, 10000000};
	long fd = trace_fd_open(path, O_WRONLY | O_NONBLOCK);

	for (int i = 0; i < READER_TURNS && fd == -ENXIO; i++) {
		(void)shunt_syscall(SYS_nanosleep, (long)&turn, 0, 0, 0);
		fd = trace_fd_open(path, O_WRONLY | O_NONBLOCK);
	}
	if (fd >= 0)
		(void)shunt_syscall(SYS_fcntl, fd, F_SETFL, O_WRONLY, 0);
	return fd;
}

long trace_fd_open_as(const char *path, enum trace_how how)
{
	static const int flags[] = {
		[TRACE_OPEN_OVER] = O_CREAT | O_TRUNC,
		[TRACE_OPEN_NEW] = O_CREAT | O_EXCL,
		[TRACE_OPEN_OWN] = O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
		[TRACE_OPEN_SHARED] = O_NONBLOCK,
	};
	long fd = how == TRACE_OPEN_SHARED ? check_device(path) : 0;

	if (fd)
		return fd;
	fd = trace_fd_open(path, O_WRONLY | flags[how]);

	/* A pipe or a device is nobody's file. */
	if (fd == -EEXIST && how == TRACE_OPEN_NEW && is_no_file(path))
		fd = open_there(path);
	return fd;
}
