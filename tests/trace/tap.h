/* SPDX-License-Identifier: MIT */
/* What the tests of tracing say. In a control (-DCONTROL) a row is good that has failed. */
#ifndef TESTS_TRACE_TAP_H
#define TESTS_TRACE_TAP_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned rows;
static bool failed;

static inline void row(bool good, const char *name)
{
#ifdef CONTROL
	printf("%sok %u - control: %s is seen to fail\n", good ? "not " : "", ++rows, name);
	failed |= good;
#else
	printf("%sok %u - %s\n", good ? "" : "not ", ++rows, name);
	failed |= !good;
#endif
	(void)fflush(stdout);
}

/*
 * In a process of its own, whose exit status says how it went: it may crash. One that hangs has
 * failed, and may have blocked its signals.
 */
static inline void row_in_child(bool (*run)(void), const char *name)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		_exit(run() ? 0 : 1);
	for (int ms = 0; pid > 0 && !waitpid(pid, &status, WNOHANG); ms++) {
		if (ms == 120000)
			(void)kill(pid, SIGKILL);
		(void)usleep(1000);
	}
	if (status)
		printf("# %s: status %x\n", name, (unsigned)status);
	row(pid > 0 && !status, name);
}

static inline int end_rows(void)
{
	printf("1..%u\n", rows);
	return failed;
}

#endif
