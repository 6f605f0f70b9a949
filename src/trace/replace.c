/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "linux/base/syscall.h"
#include "trace/open.h"
#include "trace/replace.h"

/* A regular file that has something in it. */
static bool is_to_stay(const char *path, struct stat *st)
{
	return !shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)st,
			      AT_SYMLINK_NOFOLLOW) &&
	       S_ISREG(st->st_mode) && st->st_size;
}

/* "PATH.new-PID", and the length of PATH; 0: there is no room. */
static size_t name_new(char *name, const char *path)
{
	static const char behind[] = ".new-";
	char digits[12] = {0};
	size_t len = 0, at, n = 0;

	for (; len < TRACE_PATH_MAX && path[len]; len++)
		((volatile char *)name)[len] = path[len];
	if (len + sizeof(behind) + sizeof(digits) > TRACE_PATH_MAX)
		return 0;
	at = len;
	for (size_t i = 0; behind[i]; i++)
		name[at++] = behind[i];
	for (uint32_t left = (uint32_t)shunt_own_pid(); left || !n; left /= 10)
		digits[n++] = (char)('0' + left % 10);
	while (n)
		name[at++] = digits[--n];
	name[at] = '\0';
	return len;
}

static void remove_file(const char *path)
{
	(void)shunt_syscall(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0);
}

/* The new one is the same user's, and whoever may read it might read the old one. */
static bool has_rights_of(const struct trace_file *file, const struct stat *old)
{
	struct stat st = {0};

	if (shunt_syscall(SYS_fstat, file->fd, (long)&st, 0, 0) || st.st_uid != old->st_uid ||
	    st.st_gid != old->st_gid)
		return false;
	return st.st_mode == old->st_mode ||
	       !shunt_syscall(SYS_fchmod, file->fd, (long)(old->st_mode & 07777), 0, 0);
}

/* Of making it, and of putting it there: a folder that takes no new file, a file that is mounted.
 */
static bool is_for_folder(int error)
{
	return error == -EACCES || error == -EPERM || error == -EROFS || error == -ENAMETOOLONG ||
	       error == -EBUSY || error == -EXDEV;
}

static int fail_for_place(struct trace_file *file, int error, const char *call)
{
	file->error = error;
	file->failed_call = call;
	file->is_for_place = is_for_folder(error);
	return error;
}

int trace_file_replace(struct trace_file *file, const char *path, enum trace_how how)
{
	static char name[TRACE_PATH_MAX]; /* a handler's stack may be small; one saves at a time */
	struct stat old = {0};
	size_t len;
	int error;

	if (how == TRACE_OPEN_NEW || how == TRACE_OPEN_SHARED || !is_to_stay(path, &old))
		return trace_file_open(file, path, how);
	len = name_new(name, path);
	if (len)
		remove_file(name); /* of one that had this number, and was killed */
	error = trace_file_open(file, len ? name : path, TRACE_OPEN_NEW);
	if (!error && has_rights_of(file, &old)) {
		file->replaces = len;
		return 0;
	}
	if (file->fd >= 0) {
		(void)trace_file_close(file);
		remove_file(name);
	}
	if (!len)
		error = -ENAMETOOLONG;
	return fail_for_place(file, error ? error : -EPERM, "open");
}

int trace_file_close_replaced(struct trace_file *file)
{
	static char path[TRACE_PATH_MAX];
	size_t len = file->replaces;
	long error;

	(void)trace_file_close(file);
	if (!len)
		return file->error;
	for (size_t i = 0; i < len; i++)
		((volatile char *)path)[i] = file->path[i];
	path[len] = '\0';
	error = file->error ? 0
			    : shunt_syscall6(SYS_renameat, AT_FDCWD, (long)file->path, AT_FDCWD,
					     (long)path, 0, 0);
	if (error)
		(void)fail_for_place(file, (int)error, "rename");
	/* -ENOENT: what has that name now, if anything, is another's. */
	if (file->error && file->error != -ENOENT)
		remove_file(file->path);
	return file->error;
}

/* 0, or -errno. */
static int find_whole(struct trace_file *there)
{
	struct trace_header header = {.magic = ""};
	struct stat st = {0};

	if (shunt_syscall(SYS_flock, there->fd, LOCK_EX | LOCK_NB, 0, 0) == -EWOULDBLOCK)
		return -EBUSY;
	if (shunt_syscall(SYS_fstat, there->fd, (long)&st, 0, 0) ||
	    shunt_syscall(SYS_pread64, there->fd, (long)&header, sizeof(header), 0) !=
		    sizeof(header))
		return -EEXIST;
	for (size_t i = 0; i < sizeof(header.magic); i++)
		if (header.magic[i] != TRACE_MAGIC[i])
			return -EEXIST;
	there->size = (uint64_t)st.st_size;
	there->start = header.header_size;
	there->whole = (there->size + 7) & ~7ull;
	if (header.version != TRACE_VERSION || there->start < sizeof(header) || there->start % 8 ||
	    there->start > there->size)
		return -EEXIST;
	if (there->whole > UINT32_MAX) /* where a header may lead to */
		return -EFBIG;
	return (int)shunt_syscall(SYS_ftruncate, there->fd, (long)there->whole, 0, 0);
}

int trace_file_open_earlier(struct trace_file *there, const char *path)
{
	long fd = trace_fd_open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK);
	int error;

	if (fd < 0)
		return (int)fd;
	error = trace_file_take(there, (int)fd);
	if (!error)
		error = find_whole(there);
	if (error)
		(void)trace_file_close(there);
	return error;
}

void trace_file_close_earlier(struct trace_file *there, int error)
{
	if (error)
		(void)shunt_syscall(SYS_ftruncate, there->fd, (long)there->size, 0, 0);
	(void)trace_file_close(there);
}
