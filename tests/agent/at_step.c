/* SPDX-License-Identifier: MIT */
/*
 * To preload into the tool: before the AT_STEP-th of the calls below it writes a byte to descriptor
 * AT_STEP_FD, and waits for one from there. Calls for the next part of the same thing are no steps.
 * With AT_STEP_SIGPIPE what is sent to a process that has gone ends the tool.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preloaded_open.h"

static void step(const void *what)
{
	static const void *last;
	static int n;
	const char *wanted = getenv("AT_STEP"), *fd = getenv("AT_STEP_FD");
	char byte = 0;

	if (!wanted || !fd || (what && what == last))
		return;
	last = what;
	if (++n == atoi(wanted) && write(atoi(fd), &byte, 1) == 1)
		(void)!read(atoi(fd), &byte, 1);
}

#define NEXT(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

FILE *fopen(const char *path, const char *mode)
{
	step(NULL);
	return NEXT(fopen)(path, mode);
}

DIR *opendir(const char *path)
{
	step(NULL);
	return NEXT(opendir)(path);
}

static int opened(const char *path, int flags, mode_t mode)
{
	step(NULL);
	return NEXT(open)(path, flags, mode);
}

ssize_t readlinkat(int dir, const char *path, char *to, size_t size)
{
	step((const void *)readlinkat);
	return NEXT(readlinkat)(dir, path, to, size);
}

int connect(int fd, const struct sockaddr *to, socklen_t size)
{
	step(NULL);
	return NEXT(connect)(fd, to, size);
}

int getsockopt(int fd, int level, int name, void *to, socklen_t *size)
{
	step(NULL);
	return NEXT(getsockopt)(fd, level, name, to, size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	step(NULL);
	if (getenv("AT_STEP_SIGPIPE"))
		flags &= ~MSG_NOSIGNAL;
	return NEXT(sendmsg)(fd, message, flags);
}

ssize_t recv(int fd, void *to, size_t size, int flags)
{
	step((const void *)recv);
	return NEXT(recv)(fd, to, size, flags);
}
