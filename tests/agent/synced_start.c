/* SPDX-License-Identifier: MIT */
/*
 * A thread starts the agent while another one has the update lock, and syncs by signals with it
 * held: it gets its answer.
 *
 * *Control:* SHUNT_CONTROL: the thread that starts blocks all signals while it waits for that lock.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <shunt/control.h>
#include <shunt/port.h>

#include "../api/tap.h"
#include "../common/thread_state.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_signal.h"

static _Atomic pid_t waits;

int __real_shunt_open_to_sync(int open);
int __wrap_shunt_open_to_sync(int open);
int __wrap_shunt_open_to_sync(int open)
{
	sigset_t all;

	waits = waits ? waits : gettid();
	(void)sigfillset(&all);
	if (getenv("SHUNT_CONTROL")) {
		(void)pthread_sigmask(SIG_BLOCK, &all, NULL);
		if (!shunt_port_lock())
			shunt_port_unlock();
	}
	return __real_shunt_open_to_sync(open);
}

static void *start(void *arg)
{
	return shunt_agent_start() ? NULL : arg;
}

/* What the sync has returned. */
static int sync_beside_start(void)
{
	void *good = NULL;
	pthread_t thread;
	int ret;

	waits = 0;
	if (shunt_port_lock() || pthread_create(&thread, NULL, start, &waits))
		return -1;
	while (!waits || !thread_sleeps(waits))
		(void)sched_yield();
	ret = shunt_signal_sync();
	shunt_port_unlock();
	pthread_join(thread, &good);
	ret = ret ? ret : good ? 0 : -2;
	return shunt_agent_stop() && !ret ? -3 : ret;
}

int main(void)
{
	int ret = shunt_port_lock();

	if (!ret) { /* the signal is chosen */
		ret = shunt_signal_sync();
		shunt_port_unlock();
	}
	for (int i = 0; i < 3 && !ret; i++)
		ret = sync_beside_start();
	ok(!ret, "the starting thread answers: %d", ret);
	return tap_done();
}
