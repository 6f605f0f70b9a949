/* SPDX-License-Identifier: MIT */
/* open() of a library that is preloaded: opened(), which the file that includes this defines. */
#ifndef SHUNT_TESTS_AGENT_PRELOADED_OPEN_H
#define SHUNT_TESTS_AGENT_PRELOADED_OPEN_H

#include <fcntl.h>
#include <stdarg.h>
#include <sys/types.h>

static int opened(const char *path, int flags, mode_t mode);

int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	return opened(path, flags, mode);
}

#endif
