/* SPDX-License-Identifier: MIT */
/*
 * To preload into the tool: a descriptor that it opens anew blocks, and one descriptor that it
 * looks at without waiting can be written to.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	if (n == 1 && !ms) {
		fds[0].revents = POLLOUT;
		return 1;
	}
	return (int)syscall(SYS_poll, fds, n, ms);
}

int open(const char *path, int flags, ...)
{
	va_list args;
	int mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	if (!strncmp(path, "/proc/self/fd/", 14))
		flags &= ~O_NONBLOCK;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
