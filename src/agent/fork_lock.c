/* SPDX-License-Identifier: MIT */
/*
 * What keeps fork() of the program away from the agent's thread for a moment. Where a filter
 * (seccomp) kills that thread alone in the middle of one, the lock is given up: fork() would wait
 * for it for ever.
 */
#include <errno.h>
#include <pthread.h>

#include "agent/agent.h"

static pthread_mutex_t lock;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void agent_renew_fork_lock(void)
{
	pthread_mutexattr_t attr;

	(void)pthread_mutexattr_init(&attr);
#ifndef AGENT_NOT_ROBUST /* the tests' control */
	(void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
#endif
	(void)pthread_mutex_init(&lock, &attr);
	(void)pthread_mutexattr_destroy(&attr);
}

void agent_hold_fork(void)
{
	(void)pthread_once(&once, agent_renew_fork_lock);
	if (pthread_mutex_lock(&lock) == EOWNERDEAD)
		(void)pthread_mutex_consistent(&lock);
}

void agent_allow_fork(void)
{
	(void)pthread_mutex_unlock(&lock);
}
