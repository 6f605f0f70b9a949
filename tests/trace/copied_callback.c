/* SPDX-License-Identifier: MIT */
/*
 * A copy of the process, by fork(), _Fork() or a bare system call, while another thread is in a
 * callback, which is not in the copy: nobody waits for it there. For a callback of a thread that
 * the copy has made itself an unregister waits as ever.
 *
 * *Control:* SHUNT_CONTROL, by the linker's --wrap: "unseen": records of threads that are not in
 * the copy stay; "all": those of the copy's own threads go, too.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <shunt/ftrace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/copies.h"
#include "linux/entry/context.h"

#define TRACED __attribute__((noinline, patchable_function_entry(5)))
enum { PATIENCE = 5 }; /* seconds; signals are blocked in a change: nothing else ends it */

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

void __real_shunt_contexts_of_copy(void);
void __wrap_shunt_contexts_of_copy(void);
void __wrap_shunt_contexts_of_copy(void)
{
	if (!is_control("unseen"))
		__real_shunt_contexts_of_copy();
	for (int i = 0; i < SHUNT_CONTEXTS_OF_CHUNK && is_control("all"); i++)
		atomic_store(&shunt_context_chunks.contexts[i].sp, 0);
}

static _Atomic int in_callback; /* threads that are */
static _Atomic bool may_go, is_over;

static void wait_in_callback(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			     struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	in_callback++;
	while (!may_go)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	in_callback--;
}

static struct ftrace_ops ops = {.func = wait_in_callback};

long held(long n);
TRACED long held(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

static void *call(void *arg)
{
	(void)held(1);
	return arg;
}

static void *unregister(void *arg)
{
	*(int *)arg = unregister_ftrace_function(&ops);
	is_over = true;
	return NULL;
}

/* A thread of the copy is in the callback: the unregister comes back behind that alone. */
static int with_own_thread(void)
{
	struct timespec moment = {0, 300000000};
	pthread_t caller, other;
	int ret = -1;

	in_callback = 0; /* those of the parent */
	if (pthread_create(&caller, NULL, call, NULL))
		return 2;
	while (!in_callback)
		sched_yield();
	if (pthread_create(&other, NULL, unregister, &ret))
		return 3;
	/* A wait that there is not would be over by then; one that there is lasts. */
	nanosleep(&moment, NULL);
	if (is_over)
		return 4;
	may_go = true;
	pthread_join(other, NULL);
	pthread_join(caller, NULL);
	return ret ? 5 : 0;
}

static int alone(void)
{
	return unregister_ftrace_function(&ops) || held(1) != 2 ? 6 : 0;
}

int main(void)
{
	pthread_t thread;
	pid_t pid;

	if (ftrace_set_filter(&ops, "held", 0, 1) || register_ftrace_function(&ops) ||
	    pthread_create(&thread, NULL, call, NULL))
		return EXIT_FAILURE;
	while (!in_callback)
		sched_yield();
	for (int how = BY_FORK; how <= BY_SYSTEM_CALL; how++)
		for (int own = 0; own < 2; own++) {
			int status;

			pid = make_copy(how);
			if (!pid)
				_exit(own ? with_own_thread() : alone());
			status = status_in_time(pid, PATIENCE);
			ok(!status, "%s while a thread is in a callback: the copy %s (%d)",
			   copy_ways[how], own ? "waits for its own thread" : "does not wait",
			   status);
		}
	may_go = true;
	pthread_join(thread, NULL);
	ok(!unregister_ftrace_function(&ops) && held(1) == 2, "and the parent goes on");
	return tap_done();
}
