/* SPDX-License-Identifier: MIT */
/* Bytes of a recording, and what is said of those that are wrong. */
#include "trace_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shunt.h"

int trace_corrupted(const struct trace_file *f, uint64_t offset, const char *format, ...)
{
	char what[160];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	tool_complain("%s: corrupted at byte %" PRIu64 ": %s", f->path, offset, what);
	return -1;
}

int trace_failed(const struct trace_file *f, int error)
{
	tool_complain("%s: %s", f->path, strerror(error));
	return -1;
}

int trace_read(const struct trace_file *f, void *buf, size_t size, uint64_t offset)
{
	while (size) {
		ssize_t n = pread(f->fd, buf, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return trace_failed(f, errno);
		if (n == 0) {
			tool_complain("%s: became shorter while it was read", f->path);
			return -1;
		}
		buf = (char *)buf + n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}
