/* SPDX-License-Identifier: MIT */
/*
 * Writing the file. Its descriptor is one among the program's: above those that programs count
 * on, and looked at before each write, because a program that closes all descriptors gives the
 * number to a file of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/file.h"
#include "trace/full.h"
#include "trace/open.h"
#include "trace/write.h"

enum { PARTS_MAX = 6 };

static size_t length(const char *s)
{
	size_t n = 0;

	while (((const volatile char *)s)[n])
		n++;
	return n;
}

static int fail(struct trace_file *file, const char *call, long error)
{
	if (!file->error) {
		file->error = (int)error;
		file->failed_call = call;
	}
	return file->error;
}

static long status(int fd, struct stat *st)
{
	return shunt_syscall(SYS_fstat, fd, (long)st, 0, 0);
}

static bool is_ours(const struct trace_file *file, int fd)
{
	struct stat st = {0};

	return !status(fd, &st) && st.st_dev == file->device && st.st_ino == file->inode;
}

/* Its descriptor was closed by others: again, if the file is still under its name. */
static bool find_again(struct trace_file *file)
{
	const char *path = file->path[0] || !file->again ? file->path : file->again;
	long fd = trace_fd_open(path, O_WRONLY);

	if (fd < 0)
		return false;
	if (!is_ours(file, (int)fd)) {
		(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
		return false;
	}
	(void)shunt_syscall(SYS_lseek, fd, (long)(file->start + file->size), SEEK_SET, 0);
	file->fd = (int)fd;
	return true;
}

static int write_header(struct trace_file *file);

/* Of a pipe and the like the size says nothing. */
static bool is_cut_off(const struct trace_file *file)
{
	struct stat st = {0};

	return file->begin_again && !status(file->fd, &st) && S_ISREG(st.st_mode) &&
	       (uint64_t)st.st_size < file->start + file->size;
}

/*
 * Others have made it shorter, as "> FILE" does, and what is written next would stand behind a
 * hole: it begins anew, in the place of what is left.
 */
static void begin_again(struct trace_file *file)
{
	void (*rest)(struct trace_file *) = file->begin_again;
	struct stat st = {0};

	file->begin_again = NULL;
	(void)status(file->fd, &st);
	if ((uint64_t)st.st_size < file->start)
		file->start = (uint64_t)st.st_size;
	file->size = file->events = file->nr_marks = 0;
	(void)shunt_syscall(SYS_ftruncate, file->fd, (long)file->start, 0, 0);
	(void)shunt_syscall(SYS_lseek, file->fd, (long)file->start, SEEK_SET, 0);
	if (!write_header(file))
		rest(file);
	file->begin_again = rest;
}

bool trace_file_is_there(struct trace_file *file)
{
	return file->fd >= 0 && (is_ours(file, file->fd) || find_again(file));
}

/* Its descriptor is its own, and leads to where the last chunk ends. */
static bool is_ready(struct trace_file *file)
{
	if (!is_ours(file, file->fd) && !find_again(file)) {
		file->fd = -1;
		(void)fail(file, "fstat", -EBADF);
	}
	if (!file->error && is_cut_off(file))
		begin_again(file);
	return !file->error;
}

/* Chunks, @events in them; of one alone @type and @contents. */
static int write_parts(struct trace_file *file, struct iovec *parts, int n, uint64_t events,
		       enum trace_chunk_type type, const struct iovec *contents)
{
	uint64_t size = 0, done;
	long error;

	if (file->error || !is_ready(file))
		return file->error;
	for (int i = 0; i < n; i++)
		size += parts[i].iov_len;
	if (file->limit && file->start + file->size + size > file->limit)
		return fail(file, "writev", -EOVERFLOW);
	error = trace_file_write(file, parts, n, &done);
	if (error) {
		(void)fail(file, "writev", error);
		trace_full_keep(file, type, contents, done);
		return file->error;
	}
	trace_file_added(file, size, events);
	return 0;
}

static void clear(struct trace_file *file)
{
	file->fd = -1;
	file->error = 0;
	file->size = file->start = file->limit = file->whole = file->events = 0;
	file->nr_marks = 0;
	file->tells_failure = false;
	file->begin_again = NULL;
	file->is_borrowed = false;
	file->replaces = 0;
	file->is_for_place = false;
	file->path[0] = '\0';
	file->again = NULL;
}

/* What has been opened is what it was taken for, and nobody else writes to it. 0 or -errno. */
static int check_kind(struct trace_file *file, enum trace_how how)
{
	struct stat st = {0};
	long error = status(file->fd, &st);

	if (error)
		return fail(file, "fstat", error);
	if (how == TRACE_OPEN_OWN && !S_ISREG(st.st_mode))
		return fail(file, "open", -EEXIST);
	if (S_ISFIFO(st.st_mode) &&
	    shunt_syscall(SYS_flock, file->fd, LOCK_EX | LOCK_NB, 0, 0) == -EWOULDBLOCK)
		return fail(file, "flock", -EBUSY);
	return 0;
}

static int identify(struct trace_file *file, long fd)
{
	struct stat st = {0};
	long error;

	file->fd = (int)fd;
	error = status(file->fd, &st);
	if (error)
		return fail(file, "fstat", error);
	file->device = st.st_dev;
	file->inode = st.st_ino;
	return 0;
}

static int write_header(struct trace_file *file)
{
	struct trace_header header = {.version = TRACE_VERSION, .header_size = sizeof(header)};
	struct iovec part = {&header, sizeof(header)};

	memcpy(header.magic, TRACE_MAGIC, sizeof(header.magic));
	return write_parts(file, &part, 1, 0, 0, NULL);
}

static int begin(struct trace_file *file, long fd)
{
	int error = identify(file, fd);
	long flags = shunt_syscall(SYS_fcntl, fd, F_GETFL, 0, 0);
	bool appends = flags >= 0 && flags & O_APPEND;
	long at = shunt_syscall(SYS_lseek, fd, 0, appends ? SEEK_END : SEEK_CUR, 0);

	file->start = at < 0 ? 0 : (uint64_t)at;
	return error ? error : write_header(file);
}

int trace_file_take(struct trace_file *file, int fd)
{
	clear(file);
	return identify(file, fd);
}

int trace_file_hold(struct trace_file *file, int fd)
{
	long own = trace_fd_copy(fd);

	clear(file);
	return own < 0 ? fail(file, "dup", own) : identify(file, own);
}

/* From @at on. What stands there goes, or is overwritten up to file->limit. */
static int go_on_at(struct trace_file *file, const struct trace_file *held, uint64_t at)
{
	long error = identify(file, held->fd);

	file->is_borrowed = true;
	file->start = at;
	if (!error && !file->limit)
		error = shunt_syscall(SYS_ftruncate, held->fd, (long)at, 0, 0);
	if (error)
		return fail(file, "ftruncate", error);
	error = shunt_syscall(SYS_lseek, held->fd, (long)at, SEEK_SET, 0);
	return error < 0 ? fail(file, "lseek", error) : 0;
}

int trace_file_rewrite(struct trace_file *file, struct trace_file *held, bool behind)
{
	const uint64_t front = sizeof(struct trace_header);
	struct stat st = {0};

	clear(file);
	if (!is_ours(held, held->fd) || status(held->fd, &st))
		return fail(file, "fstat", -EBADF);
	/* Others have cut it off; or the header cannot lead there. */
	if ((uint64_t)st.st_size < held->whole || held->whole > UINT32_MAX)
		held->whole = 0;
	if (!held->whole)
		return go_on_at(file, held, 0) ? file->error : write_header(file);
	if (behind || held->start <= front)
		return go_on_at(file, held, held->whole);
	file->limit = held->start;
	return go_on_at(file, held, front);
}

int trace_file_lead(struct trace_file *file, struct trace_file *held)
{
	struct trace_header header = {.version = TRACE_VERSION,
				      .header_size = (uint32_t)file->start};

	memcpy(header.magic, TRACE_MAGIC, sizeof(header.magic));
	if (file->start && !file->error &&
	    shunt_syscall(SYS_pwrite64, held->fd, (long)&header, sizeof(header), 0) !=
		    sizeof(header))
		(void)fail(file, "pwrite", -EIO);
	if (!file->error) {
		held->start = file->start ? file->start : sizeof(header);
		held->whole = file->start + file->size;
	}
	if (held->whole)
		(void)shunt_syscall(SYS_ftruncate, held->fd, (long)held->whole, 0, 0);
	return file->error;
}

bool trace_file_is_held(const struct trace_file *held)
{
	struct stat st = {0};

	return held->fd >= 0 && is_ours(held, held->fd) && !status(held->fd, &st) && st.st_nlink;
}

int trace_file_adopt(struct trace_file *file, int fd)
{
	long own;

	clear(file);
	own = trace_fd_copy(fd);
	return own < 0 ? fail(file, "dup", own) : begin(file, own);
}

int trace_file_open(struct trace_file *file, const char *path, enum trace_how how)
{
	size_t len = length(path);
	long fd;

	clear(file);
	if (len >= sizeof(file->path))
		return fail(file, "open", -ENAMETOOLONG);
	shunt_copy_text(file->path, path, len + 1);
	fd = trace_fd_open_as(path, how);
	if (fd < 0)
		return fail(file, "open", fd);
	if (identify(file, fd))
		return file->error;
	if (check_kind(file, how)) {
		(void)shunt_syscall(SYS_close, file->fd, 0, 0, 0);
		file->fd = -1;
		return file->error;
	}
	return write_header(file);
}

int trace_file_chunk(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     int n)
{
	static const char filling[8];
	struct trace_chunk chunk = {.type = type};
	struct iovec all[PARTS_MAX + 2];
	uint64_t events = 0;

	all[0] = (struct iovec){&chunk, sizeof(chunk)};
	for (int i = 0; i < n; i++) {
		all[i + 1] = parts[i];
		chunk.size += parts[i].iov_len;
		chunk.crc = trace_crc(chunk.crc, parts[i].iov_base, parts[i].iov_len);
	}
	all[n + 1] = (struct iovec){(void *)filling, -chunk.size % 8};
	if (type == TRACE_CHUNK_EVENTS)
		events = ((const struct trace_events *)parts[0].iov_base)->count;
	return write_parts(file, all, n + 1 + (chunk.size % 8 != 0), events, type, parts);
}

int trace_file_raw(struct trace_file *file, const void *chunks, size_t size)
{
	struct iovec part = {(void *)chunks, size};

	return size ? write_parts(file, &part, 1, 0, 0, NULL) : file->error;
}

/* One that has been opened by a path is to be found there, or where it was moved to. */
static bool is_removed(const struct trace_file *file)
{
	struct stat st = {0}, named = {0};

	if (!file->path[0] || status(file->fd, &st) || st.st_nlink)
		return false;
	/* Some file systems count no names. */
	return shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)file->path, (long)&named, 0) ||
	       named.st_dev != st.st_dev || named.st_ino != st.st_ino;
}

int trace_file_close(struct trace_file *file)
{
	if (file->fd >= 0 && !file->is_borrowed && is_ours(file, file->fd)) {
		bool is_gone = is_removed(file);
		long error = shunt_syscall(SYS_close, file->fd, 0, 0, 0);

		if (error || is_gone)
			(void)fail(file, error ? "close" : "removed by others",
				   error ? error : -ENOENT);
	}
	file->fd = -1;
	return file->error;
}
