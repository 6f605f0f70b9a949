/* SPDX-License-Identifier: MIT */
/* A thread that does nothing, so that its process has more than one. */
#ifndef SHUNT_TESTS_IDLE_THREAD_H
#define SHUNT_TESTS_IDLE_THREAD_H

#include <unistd.h>

static inline void *idle(void *arg)
{
	(void)pause();
	return arg;
}

#endif
