/* SPDX-License-Identifier: MIT */
/* A file as memory (shunt.h). */
#include "shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fill @buf with all @size bytes of @fd. */
static int read_all(int fd, char *buf, size_t size)
{
	while (size) {
		ssize_t n = read(fd, buf, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it became shorter meanwhile */
		buf += n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_open_file(int fd, void **image, size_t *size)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -ENOEXEC;
	*size = (size_t)st.st_size;
	*image = malloc(*size + 1);
	if (!*image)
		return -ENOMEM;
	ret = read_all(fd, *image, *size);
	if (ret) {
		free(*image);
		*image = NULL;
	}
	return ret;
}

int tool_read_file(const char *path, void **image, size_t *size)
{
	/* O_NONBLOCK: do not wait for the other end of a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	ret = read_open_file(fd, image, size);
	(void)close(fd);
	return ret;
}
