/* SPDX-License-Identifier: MIT */
/* A file as memory, to be read. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"

static int failed(const char *call)
{
	shunt_failed_call = call;
	return -errno;
}

static int map(struct shunt_file *file, int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		return failed("fstat");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return -EINVAL;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return failed("mmap");
	if (!p) { /* a filter says that it was done */
		shunt_failed_call = "mmap";
		return -EIO;
	}
	file->image = p;
	file->size = (size_t)st.st_size;
	return 0;
}

int shunt_file_map(struct shunt_file *file, const char *path)
{
	int fd = shunt_fd_open(path, O_RDONLY);
	int ret;

	file->size = 0;
	if (fd < 0) {
		shunt_failed_call = "open";
		return fd;
	}
	ret = map(file, fd);
	shunt_fd_close(fd);
	return ret;
}

void shunt_file_unmap(struct shunt_file *file)
{
	if (file->size)
		(void)munmap((void *)file->image, file->size);
	file->size = 0;
}
