/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "trace/write.h"

enum { POLL_MS = 1000 };

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
