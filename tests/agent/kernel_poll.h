/* SPDX-License-Identifier: MIT */
/* poll() of the kernel, for a library that is preloaded in the place of the C library's. */
#ifndef SHUNT_TESTS_AGENT_KERNEL_POLL_H
#define SHUNT_TESTS_AGENT_KERNEL_POLL_H

#include <poll.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* By the call that each CPU has. */
static inline int kernel_poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	return (int)syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &time, NULL, (size_t)0);
}

#endif
