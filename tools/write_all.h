/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TOOLS_WRITE_ALL_H
#define SHUNT_TOOLS_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

/* Write @size bytes, however many calls that takes. 0, or -errno, with errno set as well. */
static inline int write_all(int fd, const void *from, size_t size)
{
	const char *bytes = from;

	while (size) {
		ssize_t n = write(fd, bytes, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		size -= (size_t)n;
	}
	return 0;
}

#endif
