/* SPDX-License-Identifier: MIT */
/* To preload into the tool: where it waits for one descriptor and for signals, only the descriptor
 * is looked for. */
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	return (int)syscall(SYS_poll, fds, n == 2 ? 1 : n, ms);
}
