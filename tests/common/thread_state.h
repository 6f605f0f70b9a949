/* SPDX-License-Identifier: MIT */
/* What /proc says of a thread of this process. */
#ifndef SHUNT_TESTS_THREAD_STATE_H
#define SHUNT_TESTS_THREAD_STATE_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

/* As in proc_pid_stat(5); 0: there is no such thread. */
static inline char thread_state(pid_t tid)
{
	char path[64], text[128] = "";
	const char *state;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	(void)fclose(f);
	state = strrchr(text, ')');
	return (char)(state && state[1] ? state[2] : 0);
}

/* Whether the thread sleeps in the kernel, on a lock for one. */
static inline bool thread_sleeps(pid_t tid)
{
	return thread_state(tid) == 'S';
}

#endif
