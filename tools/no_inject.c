/* SPDX-License-Identifier: MIT */
/*
 * Starting the agent in a process that runs, on a CPU whose registers and calls this program does
 * not know how to borrow: refused, but for a process that has it already.
 */
#include "inject.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "remote.h"

int inject_check(pid_t pid, bool allow_seccomp, char *why, size_t size)
{
	(void)allow_seccomp;
	(void)snprintf(
		why, size,
		"process %d: the agent cannot be put into a running process on this CPU: start "
		"the program with SHUNT_AGENT=1 LD_PRELOAD=libshunt-agent.so.0",
		(int)pid);
	return -EOPNOTSUPP;
}

int inject_agent(pid_t pid, const struct inject_options *options, struct inject_result *result)
{
	char path[REMOTE_PATH];
	int fd = -1;

	*result = (struct inject_result){0};
	if (remote_find(pid, path)) {
		fd = remote_connect(pid, result->why, sizeof(result->why));
		if (fd < 0 && fd != -ENOENT)
			return fd; /* it is no process that can have one */
	}
	if (fd >= 0)
		(void)close(fd);
	if (fd != -ENOENT) {
		result->was_there = true;
		return 0;
	}
	return inject_check(pid, options->allow_seccomp, result->why, sizeof(result->why));
}
