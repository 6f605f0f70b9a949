/* SPDX-License-Identifier: MIT */
/*
 * Descriptors. What is kept open is known again by its file offset: each has one of its own,
 * which nobody else would come to. Device and inode do not tell, because the program may
 * open the same file.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/first_thread.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"

/* Kept ones have this number or a higher one, where the limit of the process allows it. */
#define KEPT_FROM 50

#define FIRST_OWN (STDERR_FILENO + 1)

static long control(long fd, int command, long arg)
{
	return shunt_syscall(SYS_fcntl, fd, command, arg, 0);
}

/*
 * When the first thread has ended before others, /proc/self has no memory, descriptors or file
 * of the program any more, but each of theirs has. (It goes on to have a status, and threads.)
 */
static const char *of_this_process(const char *path, char *room, size_t size)
{
	static const char self[] = "/proc/self/";
	const char *name;

	if (strncmp(path, self, strlen(self)) != 0)
		return path;
	name = path + strlen(self);
	if (!strncmp(name, "task", strlen("task")) || !strcmp(name, "status") ||
	    !shunt_first_thread_has_ended())
		return path;
	shunt_format(room, size, "/proc/thread-self/%s", name);
	return room;
}

static long open_at_lowest(const char *path, int flags)
{
	char room[64];

	path = of_this_process(path, room, sizeof(room));
	return shunt_syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0);
}

void shunt_fd_close(int fd)
{
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
}

/* ------------------------------------------------------------- not 0, 1 or 2 */

/*
 * Those of 0, 1 and 2 that are closed are taken for a moment, by descriptors that can be neither
 * read nor written: what the program does with them in that moment fails as it did.
 */
struct gap {
	long fds[FIRST_OWN];
	int n;
};

static void fill_gap(struct gap *gap)
{
	gap->n = 0;
	for (int fd = 0; fd < FIRST_OWN; fd++) {
		long got = -1;

		if (control(fd, F_GETFD, 0) == -EBADF)
			got = open_at_lowest("/", O_PATH);
		if (got >= FIRST_OWN) /* none of them was closed any more */
			shunt_fd_close((int)got);
		else if (got >= 0)
			gap->fds[gap->n++] = got;
	}
}

/* But not what the program has put there meanwhile. */
static void clear_gap(const struct gap *gap)
{
	for (int i = 0; i < gap->n; i++) {
		long flags = control(gap->fds[i], F_GETFL, 0);

		if (flags >= 0 && flags & O_PATH)
			shunt_fd_close((int)gap->fds[i]);
	}
}

/*
 * To a number of @from or above; where there is none, -errno, and @fd stays open. A filter may
 * answer with the number of one of the program's.
 */
static long move_up(long fd, int from)
{
	long moved = control(fd, F_DUPFD_CLOEXEC, from);

	if (moved >= 0 && moved < from)
		return -EINVAL; /* a filter says that it was done */
	if (moved >= 0)
		shunt_fd_close((int)fd);
	return moved;
}

/* Whether a filter answers 0 to openat(): the kernel opens no file without a name. */
static bool is_open_faked(void)
{
	return open_at_lowest("", O_RDONLY) == 0;
}

int shunt_fd_open(const char *path, int flags)
{
	struct gap gap;
	long fd, moved;

	fill_gap(&gap);
	fd = open_at_lowest(path, flags);
	clear_gap(&gap);
	if (fd < 0 || fd >= FIRST_OWN)
		return (int)fd;
	if (is_open_faked())
		return -EPERM; /* and 0 is the program's */
	moved = move_up(fd, FIRST_OWN);
	if (moved < 0)
		shunt_fd_close((int)fd);
	return (int)(moved == -EINVAL ? -EMFILE : moved);
}

/* ------------------------------------------------------------------- procfs */

/* What the kernel's procfs has: no device, blocks of 1 KiB, and nothing in them. */
static bool looks_like_proc(const struct stat *st)
{
	return !major(st->st_dev) && st->st_blksize == 1024 && !st->st_size && !st->st_blocks;
}

/* By fstat() if that will do: fewer filters forbid it. */
bool shunt_fd_is_proc(int fd)
{
	struct stat st = {0};
	struct statfs fs = {0};
	bool is_told = !shunt_syscall(SYS_fstat, fd, (long)&st, 0, 0);

	if (is_told && looks_like_proc(&st))
		return true;
	if (shunt_syscall(SYS_fstatfs, fd, (long)&fs, 0, 0))
		return !is_told; /* a filter refuses both */
	return fs.f_type == PROC_SUPER_MAGIC;
}

/* ----------------------------------------------- descriptors that stay open */

/*
 * The @serial-th offset, from @low on, of @range (a power of 2). Two copies of the library
 * in a process have different ones.
 */
static int64_t offset_of(uint64_t serial, int64_t low, int64_t range)
{
	static const char own;
	uint64_t mixed = ((uint64_t)(uintptr_t)&own + serial) * 0x9e3779b97f4a7c15u;

	return low + (int64_t)((mixed ^ mixed >> 29) & (uint64_t)(range - 1));
}

/* ext4 takes up to 4 TiB at least, FAT up to 4 GiB. */
static int move_to_own_offset(long fd, int64_t *fd_offset)
{
	static _Atomic uint64_t last;
	uint64_t serial = ++last;
	long ret;

	*fd_offset = offset_of(serial, (int64_t)1 << 41, (int64_t)1 << 40);
	ret = shunt_syscall(SYS_lseek, fd, *fd_offset, SEEK_SET, 0);
	if (ret < 0) {
		*fd_offset = offset_of(serial, (int64_t)1 << 31, (int64_t)1 << 30);
		ret = shunt_syscall(SYS_lseek, fd, *fd_offset, SEEK_SET, 0);
	}
	if (ret >= 0 && ret != *fd_offset)
		return -EPERM; /* a filter says that it was done */
	return ret < 0 ? (int)ret : 0;
}

int shunt_fd_open_kept(const char *path, int flags, int64_t *fd_offset)
{
	long fd = shunt_fd_open(path, flags), moved;
	int ret;

	if (fd < 0)
		return (int)fd;
	moved = move_up(fd, KEPT_FROM);
	if (moved >= 0)
		fd = moved;
	ret = move_to_own_offset(fd, fd_offset);
	if (!ret)
		return (int)fd;
	shunt_fd_close((int)fd);
	shunt_failed_call = "lseek";
	return ret;
}

bool shunt_fd_is_kept(int fd, int64_t fd_offset)
{
	return shunt_syscall(SYS_lseek, fd, 0, SEEK_CUR, 0) == fd_offset;
}
