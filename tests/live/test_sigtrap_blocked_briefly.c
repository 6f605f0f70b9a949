/* SPDX-License-Identifier: MIT */
/*
 * A thread that blocks SIGTRAP for a moment only, as the C library does where a thread is being
 * started: auto, which has come to int3, looks again, and the update goes through. One that
 * goes on blocking it has the update refused.
 *
 * Control: the thread stays as it is.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include <shunt/port.h>

#include "../api/tap.h"
#include "../common/one_two.h"
#include "linux/base/tasks.h"
#include "linux/sync/sync.h"

DEFINE_STATIC_CALL(starting_key, one);

KEEP static int site(void)
{
	return static_call(starting_key)() + 0;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
enum shunt_task __real_shunt_task_look(int32_t tid, int sig);
enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig);

/* Remap is not to be had. */
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	return -ENOSYS;
}

static struct {
	unsigned opens_at;          /* the look behind which it opens its signals; 0: never */
	_Atomic unsigned looks;     /* that have found them blocked */
	_Atomic bool blocks, opens; /* it does; it is to open them */
	_Atomic bool over;
} thread;

enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig)
{
	enum shunt_task task = __real_shunt_task_look(tid, sig);

	if (task == SHUNT_TASK_BLOCKS && ++thread.looks == thread.opens_at) {
		thread.opens = true;
		while (thread.blocks)
			(void)sched_yield();
	}
	return task;
}

static void *block(void *arg)
{
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	thread.blocks = true;
	while (!thread.opens && !thread.over)
		(void)sched_yield();
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	thread.blocks = false;
	while (!thread.over)
		(void)sched_yield();
	return arg;
}

/* What becomes of an update beside it. */
static int update_beside(unsigned opens_at, int (*to)(void))
{
	pthread_t t;
	int ret;

	thread.opens_at = opens_at;
	thread.looks = 0;
	thread.over = thread.opens = thread.blocks = false;
	if (pthread_create(&t, NULL, block, NULL))
		return -ECHILD;
	while (!thread.blocks)
		(void)sched_yield();
	ret = static_call_update(starting_key, to);
	thread.over = true;
	(void)pthread_join(t, NULL);
	return ret;
}

int main(void)
{
	int ret;

	shunt_set_log(NULL, NULL);
	ret = update_beside(1, two);
	ok(!ret && site() == 2, "a thread that opens its signals after the first look: %d", ret);
	ret = update_beside(3, one);
	ok(!ret && site() == 1, "after the third: %d", ret);
	ret = update_beside(0, two);
	ok(ret < 0 && site() == 1 && strstr(shunt_last_error(), "blocks SIGTRAP"),
	   "control: never: %d, %s", ret, shunt_last_error());
	return tap_done();
}
