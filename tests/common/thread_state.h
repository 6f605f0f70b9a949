/* SPDX-License-Identifier: MIT */
/* What /proc says of a thread of this process. */
#ifndef SHUNT_TESTS_THREAD_STATE_H
#define SHUNT_TESTS_THREAD_STATE_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

/* Whether the thread sleeps in the kernel, on a lock for one. */
static inline bool thread_sleeps(pid_t tid)
{
	char path[64], text[128] = "";
	const char *state;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	(void)fclose(f);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

#endif
