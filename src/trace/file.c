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

enum { FD_HIGH = 600, PARTS_MAX = 6, READER_TURNS = 200, POLL_MS = 1000 };

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

static long copy_fd(long fd)
{
	long high = shunt_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_HIGH, 0);

	return high == -EINVAL ? shunt_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0) : high;
}

static long open_fd(const char *path, int flags)
{
	long fd =
		shunt_syscall(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC | O_NOCTTY, 0666);
	long high;

	if (fd < 0)
		return fd;
	high = copy_fd(fd);
	if (high < 0)
		return fd;
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return high;
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
	long fd = open_fd(file->path, O_WRONLY);

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

/* A file that would be too big, a pipe that nobody reads: not the program's to die of. */
static void discard_signal(int sig)
{
	static const struct timespec now = {0, 0};
	uint64_t set = 1ull << (sig - 1);

	(void)shunt_syscall(SYS_rt_sigtimedwait, (long)&set, 0, (long)&now, sizeof(set));
}

static void wait_until_writable(int fd)
{
	struct pollfd one = {.fd = fd, .events = POLLOUT};
	struct timespec most = {POLL_MS / 1000, POLL_MS % 1000 * 1000000L};

	(void)shunt_syscall6(SYS_ppoll, (long)&one, 1, (long)&most, 0, 0, 0);
}

/* All signals of this thread are blocked. 0 or -errno; *@all: bytes that were written. */
static long write_all(int fd, struct iovec *parts, int n, uint64_t *all)
{
	*all = 0;
	while (n) {
		long done = shunt_syscall(SYS_writev, fd, (long)parts, n, 0);

		if (done == -EAGAIN)
			wait_until_writable(fd);
		if (done == -EINTR || done == -EAGAIN)
			continue;
		if (done == -EFBIG)
			discard_signal(SIGXFSZ);
		if (done == -EPIPE)
			discard_signal(SIGPIPE);
		if (done <= 0)
			return done ? done : -EIO;
		*all += (uint64_t)done;
		while (n && (size_t)done >= parts->iov_len) {
			done -= (long)parts->iov_len;
			parts++;
			n--;
		}
		if (n) {
			parts->iov_base = (char *)parts->iov_base + done;
			parts->iov_len -= (size_t)done;
		}
	}
	return 0;
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

long trace_file_write(const struct trace_file *file, struct iovec *parts, int n, uint64_t *done)
{
	uint64_t all = ~0ull, before = 0;
	long error;

	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before,
			    sizeof(all));
	error = write_all(file->fd, parts, n, done);
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before));
	return error;
}

void trace_file_added(struct trace_file *file, uint64_t size, uint64_t events)
{
	struct trace_mark *mark = &file->marks[file->nr_marks++ % TRACE_MARKS];

	mark->size = file->size;
	mark->events = file->events;
	file->size += size;
	file->events += events;
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
	error = trace_file_write(file, parts, n, &done);
	if (error) {
		(void)fail(file, "writev", error);
		if (file->keep)
			file->keep(file, type, contents, done);
		else if (file->path[0]) /* else something may stand before what is ours */
			(void)shunt_syscall(SYS_ftruncate, file->fd,
					    (long)(file->start + file->size), 0, 0);
		return file->error;
	}
	trace_file_added(file, size, events);
	return 0;
}

static void clear(struct trace_file *file)
{
	file->fd = -1;
	file->error = 0;
	file->size = file->start = file->events = 0;
	file->nr_marks = 0;
	file->tells_failure = false;
	file->begin_again = NULL;
	file->keep = NULL;
	file->is_borrowed = false;
	file->path[0] = '\0';
}

static bool is_device(const char *path)
{
	struct stat st = {0};

	return !shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0) &&
	       (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static bool is_no_file(const char *path)
{
	struct stat st = {0};

	return !shunt_syscall(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0) &&
	       !S_ISREG(st.st_mode);
}

/*
 * What is there, and is no regular file. Nobody waits for ever for a pipe's reader, which may have
 * seen the end of another process's session.
 */
static long open_there(const char *path)
{
	static const struct timespec turn = {0, 10000000};
	long fd = open_fd(path, O_WRONLY | O_NONBLOCK);

	for (int i = 0; i < READER_TURNS && fd == -ENXIO; i++) {
		(void)shunt_syscall(SYS_nanosleep, (long)&turn, 0, 0, 0);
		fd = open_fd(path, O_WRONLY | O_NONBLOCK);
	}
	if (fd >= 0)
		(void)shunt_syscall(SYS_fcntl, fd, F_SETFL, O_WRONLY, 0);
	return fd;
}

static long open_as(const char *path, enum trace_how how)
{
	static const int flags[] = {
		[TRACE_OPEN_OVER] = O_CREAT | O_TRUNC,
		[TRACE_OPEN_NEW] = O_CREAT | O_EXCL,
		[TRACE_OPEN_OWN] = O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
		[TRACE_OPEN_SHARED] = O_NONBLOCK,
	};
	long fd;

	if (how == TRACE_OPEN_SHARED && !is_device(path))
		return -EBUSY; /* a pipe's reader would see its end with ours */
	fd = open_fd(path, O_WRONLY | flags[how]);

	/* A pipe or a device is nobody's file. */
	if (fd == -EEXIST && how == TRACE_OPEN_NEW && is_no_file(path))
		fd = open_there(path);
	return fd;
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

int trace_file_hold(struct trace_file *file, int fd)
{
	long own;

	clear(file);
	own = copy_fd(fd);
	return own < 0 ? fail(file, "dup", own) : identify(file, own);
}

int trace_file_rewrite(struct trace_file *file, const struct trace_file *held)
{
	long error;

	clear(file);
	if (!is_ours(held, held->fd))
		return fail(file, "fstat", -EBADF);
	error = shunt_syscall(SYS_ftruncate, held->fd, 0, 0, 0);
	if (error)
		return fail(file, "ftruncate", error);
	(void)shunt_syscall(SYS_lseek, held->fd, 0, SEEK_SET, 0);
	file->is_borrowed = true;
	return begin(file, held->fd);
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
	own = copy_fd(fd);
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
	fd = open_as(path, how);
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
