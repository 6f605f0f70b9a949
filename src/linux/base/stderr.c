/* SPDX-License-Identifier: MIT */
/*
 * Messages to standard error, which is the program's, and may be anything: a pipe that
 * nobody reads (SIGPIPE), or reads too slowly; a terminal that another job has (SIGTTOU),
 * or that is held by ^S; a file as long as files may be (SIGXFSZ); or, in a daemon that has
 * closed it, whatever has got the number 2 since. No message is worth any of that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/format.h"
#include "linux/base/stderr.h"
#include "linux/base/syscall.h"

#define STDERR 2

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_rdev == b->st_rdev &&
	       (a->st_mode & S_IFMT) == (b->st_mode & S_IFMT);
}

/* What standard error was at first. A mode of 0: it was closed. */
static struct stat at_start;
static _Atomic bool is_known;

/* Early, before the program can open files. A message may come even earlier. */
__attribute__((constructor(101))) static void remember(void)
{
	if (atomic_load_explicit(&is_known, memory_order_acquire))
		return;
	(void)shunt_syscall(SYS_fstat, STDERR, (long)&at_start, 0, 0);
	atomic_store_explicit(&is_known, true, memory_order_release);
}

/* ---------------------------------------------------------------------- signals */

/* As the kernel counts them: bit n - 1 is signal n. */
static uint64_t set_of(int sig)
{
	return (uint64_t)1 << (sig - 1);
}

static uint64_t pending(void)
{
	uint64_t set = 0;

	(void)shunt_syscall(SYS_rt_sigpending, (long)&set, sizeof(set), 0, 0);
	return set;
}

static void consume(uint64_t set)
{
	struct timespec now = {0, 0};

	(void)shunt_syscall(SYS_rt_sigtimedwait, (long)&set, 0, (long)&now, sizeof(set));
}

/* ---------------------------------------------------------------------- writing */

static bool is_writable(void)
{
	struct pollfd fd = {STDERR, POLLOUT, 0};
	struct timespec now = {0, 0};

	return shunt_syscall6(SYS_ppoll, (long)&fd, 1, (long)&now, 0, 0, 0) == 1 &&
	       (fd.revents & POLLOUT);
}

/*
 * Pipes and terminals: through an open file of our own that does not wait. The program's is
 * shared with its other processes, and is left as it is. Where the file cannot be opened (a
 * terminal of another user's, no /proc) it is asked whether there is room.
 */
static long write_at_once(const char *line, size_t n)
{
	int fd = shunt_fd_open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY);
	long ret;

	if (fd == -ENXIO)
		return fd; /* a pipe that nobody reads */
	if (fd < 0)
		return is_writable() ? shunt_syscall(SYS_write, STDERR, (long)line, (long)n, 0)
				     : -EAGAIN;
	ret = shunt_syscall(SYS_write, fd, (long)line, (long)n, 0);
	shunt_fd_close(fd);
	return ret;
}

/* The signals that a write may raise are blocked meanwhile, and taken away again. */
static void write_without_signals(const char *line, size_t n, bool is_file)
{
	uint64_t set = set_of(SIGPIPE) | set_of(SIGXFSZ) | set_of(SIGTTOU), before = 0, were;
	long ret;

	if (shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, (long)&before, sizeof(set)))
		return;
	were = pending();
	ret = is_file ? shunt_syscall(SYS_write, STDERR, (long)line, (long)n, 0)
		      : write_at_once(line, n);
	if (ret == -EPIPE && !(were & set_of(SIGPIPE)))
		consume(set_of(SIGPIPE));
	if (ret == -EFBIG && !(were & set_of(SIGXFSZ)))
		consume(set_of(SIGXFSZ));
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof(before));
}

void shunt_write_stderr(const char *message)
{
	char text[SHUNT_MESSAGE_MAX + 16];
	struct shunt_line line = {text, text + sizeof(text), 0};
	struct stat now = {0};
	size_t n;

	remember();
	if (shunt_syscall(SYS_fstat, STDERR, (long)&now, 0, 0) || !is_same(&now, &at_start))
		return;
	shunt_append(&line, "shunt: %s\n", message);
	n = (size_t)(line.at - text);
	if (S_ISSOCK(now.st_mode))
		(void)shunt_syscall6(SYS_sendto, STDERR, (long)text, (long)n,
				     MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
	else
		write_without_signals(text, n, S_ISREG(now.st_mode));
}
