/* SPDX-License-Identifier: MIT */
/*
 * Processes that share their memory, and not their signal handlers: a child of vfork() or of
 * clone(CLONE_VM) runs through the sites of its parent's first update by int3, and makes
 * updates itself. And by auto, which takes SIGTRAP only when it comes to int3, because remap is
 * closed: not while there is such a child that was made before. Controls: its handler is put back
 * to what it was before the policy was set; it is not looked for.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../common/filter.h"
#include "key.h"
#include "linux/base/tasks.h"
#include "rows.h"

static _Atomic int state; /* 1: the child runs; 2: the updates are done, or the child is gone */
static _Atomic unsigned calls;

/* Each int3, tail and first byte stands until the child has been through the site. */
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();
	unsigned then = calls;

	while (state == 1 && calls - then < 2)
		(void)sched_yield();
	return ret;
}

static void *update_all(void *arg)
{
	while (!state)
		(void)sched_yield();
	for (int i = 0; i < 30; i++)
		must(!static_call_update(key, i % 2 ? old_function : new_function));
	state = 2;
	return arg;
}

static int run_child_of(void *arg)
{
	if (arg)
		(void)signal(SIGTRAP, SIG_DFL);
	state = 1;
	while (state != 2) {
		int x = go();

		calls++;
		if (x != 1 && x != 2)
			_exit(1);
	}
	_exit(0);
}

static void end_as(pid_t child, pthread_t updater)
{
	int status = 0;

	must(child > 0 && waitpid(child, &status, __WALL) == child);
	state = 2;
	must(!pthread_join(updater, NULL));
	if (WIFSIGNALED(status)) {
		(void)signal(SIGTRAP, SIG_DFL);
		(void)raise(WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

static void run(bool by_clone, int flags, bool without)
{
	static _Alignas(16) char stack[65536];
	pthread_t thread;
	pid_t child;

	must(!shunt_set_poke(SHUNT_POKE_INT3));
	must(!pthread_create(&thread, NULL, update_all, NULL));
	if (by_clone)
		child = clone(run_child_of, stack + sizeof(stack), flags | CLONE_VM | SIGCHLD,
			      without ? stack : NULL);
	else
		child = vfork();
	if (!child)
		run_child_of(NULL);
	end_as(child, thread);
}

static void by_vfork(void)
{
	run(false, 0, false);
}

static void by_clone(void)
{
	run(true, 0, false);
}

static void by_clone_with_handlers(void)
{
	run(true, CLONE_SIGHAND, false);
}

static void by_clone_without(void)
{
	run(true, 0, true);
}

/* ------------------------------------------------------------------- auto, and no remap */

static bool blind;

int32_t __real_shunt_task_sharing_memory(const struct shunt_tasks *tasks);
int32_t __wrap_shunt_task_sharing_memory(const struct shunt_tasks *tasks);
int32_t __wrap_shunt_task_sharing_memory(const struct shunt_tasks *tasks)
{
	return blind ? 0 : __real_shunt_task_sharing_memory(tasks);
}

static _Atomic int refused;

/* All are to be refused, with a message, while the child is there. */
static void *update_refused(void *arg)
{
	while (!state)
		(void)sched_yield();
	for (int i = 0; i < 5; i++) {
		int ret = static_call_update(key, new_function);

		refused += ret < 0 && strstr(shunt_last_error(), "has no handler");
	}
	state = 2; /* always: the child is no thread, and outlives us */
	return arg;
}

static void run_auto(bool by_clone)
{
	static _Alignas(16) char stack[65536];
	pthread_t thread;
	int status = 0;
	pid_t child;

	must(answer_syscall(SYS_mremap, EPERM));
	must(!pthread_create(&thread, NULL, update_refused, NULL));
	if (by_clone)
		child = clone(run_child_of, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	else
		child = vfork();
	if (!child)
		run_child_of(NULL);
	must(child > 0 && waitpid(child, &status, __WALL) == child);
	state = 2;
	must(!pthread_join(thread, NULL) && !status && refused == 5);
	must(!static_call_update(key, new_function) && go() == 2); /* it has gone */
}

static void auto_by_vfork(void)
{
	run_auto(false);
}

static void auto_by_clone(void)
{
	run_auto(true);
}

static void auto_blind(void)
{
	blind = true;
	run_auto(false);
}

static const struct row rows[] = {
	{"a child of vfork() in the first updates by int3", by_vfork, 0, 0, 0, false},
	{"a child of clone(CLONE_VM)", by_clone, 0, 0, 0, false},
	{"a child of clone(CLONE_VM | CLONE_SIGHAND)", by_clone_with_handlers, 0, 0, 0, false},
	{"auto comes to int3 beside a child of vfork()", auto_by_vfork, 0, 0, 0, false},
	{"auto comes to int3 beside one of clone(CLONE_VM)", auto_by_clone, 0, 0, 0, false},
	{"auto does not look for it", auto_blind, 0, 0, 0, true},
	{"a child without the handler", by_clone_without, 0, 0, 0, true},
};

int main(void)
{
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
