/* SPDX-License-Identifier: MIT */
/* To preload into the tool: where it waits for one descriptor and for signals, only the descriptor
 * is looked for; and of blocked signals none is seen to have come. */
#include <signal.h>

#include "kernel_poll.h"

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	return kernel_poll(fds, n == 2 ? 1 : n, ms);
}

int sigpending(sigset_t *set)
{
	return sigemptyset(set);
}
