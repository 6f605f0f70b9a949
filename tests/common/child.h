/* SPDX-License-Identifier: MIT */
/* Runs something in a child process and says how that ended. */
#ifndef SHUNT_TESTS_CHILD_H
#define SHUNT_TESTS_CHILD_H

#include <sys/wait.h>
#include <unistd.h>

/* Waits for the child: its status, or 1000 + the signal that has killed it; -1: there is none. */
static inline int child_status(pid_t pid)
{
	int status = -1;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline int in_child(int (*fn)(void))
{
	pid_t pid = fork();

	if (!pid)
		_exit(fn());
	return child_status(pid);
}

#endif
