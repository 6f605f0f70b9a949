/* SPDX-License-Identifier: MIT */
/* Copies of the process, made in each way, and how they end: also one that hangs. */
#ifndef SHUNT_TESTS_COPIES_H
#define SHUNT_TESTS_COPIES_H

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum copy_way { BY_FORK, BY_LIBC, BY_SYSTEM_CALL };
static const char *const copy_ways[] = {"fork()", "_Fork()", "a bare clone()"};

static inline pid_t make_copy(enum copy_way how)
{
	if (how == BY_SYSTEM_CALL)
		return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#if __GLIBC_PREREQ(2, 34)
	if (how == BY_LIBC)
		return _Fork();
#endif
	return fork();
}

/* Its status, or 128 + the signal that has killed it: 137: it has hung for @seconds. */
static inline int status_in_time(pid_t pid, int seconds)
{
	const struct timespec moment = {0, 10000000};
	int status = -1;

	for (int i = 0; i < seconds * 100 && !waitpid(pid, &status, WNOHANG); i++)
		nanosleep(&moment, NULL);
	if (status == -1) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, &status, 0);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#endif
