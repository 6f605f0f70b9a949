/* SPDX-License-Identifier: MIT */
/*
 * To preload into the tool: a descriptor that it opens anew blocks, and one descriptor that it
 * looks at without waiting can be written to.
 */
#include <string.h>

#include "kernel_poll.h"
#include "preloaded_open.h"

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	if (n == 1 && !ms) {
		fds[0].revents = POLLOUT;
		return 1;
	}
	return kernel_poll(fds, n, ms);
}

static int opened(const char *path, int flags, mode_t mode)
{
	if (!strncmp(path, "/proc/self/fd/", 14))
		flags &= ~O_NONBLOCK;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
