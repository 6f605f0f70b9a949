/* SPDX-License-Identifier: MIT */
/* Bytes of a recording, and what is said of those that are wrong. */
#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shunt.h"
#include "write_all.h"

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

/* All that @from has yet to give. 0 or -errno. */
static int copy_all(int from, int to)
{
	char block[65536];

	for (;;) {
		ssize_t n = read(from, block, sizeof(block));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		if (write_all(to, block, (size_t)n))
			return -errno;
	}
}

/* A descriptor or -errno. */
static int spool(int from)
{
	FILE *file = tmpfile();
	int flags = fcntl(from, F_GETFL), err, fd;

	if (!file)
		return -errno;
	/* It was opened so as not to wait for a writer: what is there already is waited for. */
	if (flags & O_NONBLOCK)
		(void)fcntl(from, F_SETFL, flags & ~O_NONBLOCK);
	err = copy_all(from, fileno(file));
	fd = err ? err : fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
	if (!err && fd < 0)
		fd = -errno;
	(void)fclose(file);
	return fd;
}

int trace_regular(const struct trace_file *f, int fd)
{
	struct stat st;
	int copy;

	/* A device may have no end. */
	if (fstat(fd, &st) || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
		return fd;
	copy = spool(fd);
	(void)close(fd);
	return copy < 0 ? trace_failed(f, -copy) : copy;
}
