/* SPDX-License-Identifier: MIT */
/* What keeps fork() of the program away from the agent's thread for a moment. */
#include <pthread.h>

#include "agent/agent.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void agent_hold_fork(void)
{
	(void)pthread_mutex_lock(&lock);
}

void agent_allow_fork(void)
{
	(void)pthread_mutex_unlock(&lock);
}

void agent_renew_fork_lock(void)
{
	(void)pthread_mutex_init(&lock, NULL);
}
