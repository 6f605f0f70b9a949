/* SPDX-License-Identifier: MIT */
/* shunt attach by itself, for builds without one of its checks. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "remote_common.h"
#include "shunt.h"

void tool_complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

int tool_usage(const char *usage)
{
	(void)fprintf(stderr, "usage: %s\n", usage);
	return EXIT_USAGE;
}

int tool_want_one(int argc, char **argv, int index, const char *what, const char *usage)
{
	(void)argc;
	(void)argv;
	(void)index;
	(void)what;
	return tool_usage(usage);
}

bool remote_read_pid(const char *command, const char *text, pid_t *pid)
{
	(void)command;
	*pid = (pid_t)strtol(text, NULL, 10);
	return *pid > 0;
}

int tool_read_file(const char *path, void **image, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st = {0};
	int err = fd < 0 || fstat(fd, &st) ? -errno : 0;

	*image = err ? NULL : malloc((size_t)st.st_size + 1);
	if (!err && (!*image || read(fd, *image, (size_t)st.st_size) != st.st_size))
		err = -EIO;
	*size = err ? 0 : (size_t)st.st_size;
	if (fd >= 0)
		(void)close(fd);
	return err;
}

int main(int argc, char **argv)
{
	return argc < 2 ? EXIT_USAGE : cmd_attach(argc - 1, argv + 1);
}
