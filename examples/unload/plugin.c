/* SPDX-License-Identifier: MIT */
/* A plugin for host.c, which takes its time. */
#include <sched.h>

int filter(int sample);

int filter(int sample)
{
	for (int i = 0; i < 3; i++)
		sched_yield();
	return 3 * sample;
}
