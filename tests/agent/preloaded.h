/* SPDX-License-Identifier: MIT */
/* What a library that is preloaded into the tool has in the place of the C library's. */
#ifndef SHUNT_TESTS_AGENT_PRELOADED_H
#define SHUNT_TESTS_AGENT_PRELOADED_H

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* poll() of the kernel, by the call that each CPU has. */
static inline int kernel_poll(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000L};

	return (int)syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &time, NULL, (size_t)0);
}

/* The third argument of open(), behind @flags; 0: there is none. */
static inline mode_t open_mode(int flags, va_list args)
{
	return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

#endif
