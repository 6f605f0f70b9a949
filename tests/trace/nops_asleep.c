/* SPDX-License-Identifier: MIT */
/*
 * An entry of five nops of one byte is traced for the first time while a thread blocks all signals,
 * runs when it is sent the one of the sync, and goes to sleep then, on what the tracing thread has:
 * it is seen to sleep outside of the nops, and not waited for. With the mask of a thread in an
 * update, and with every signal blocked.
 *
 * Control: the mutant "asleep-too-late" (tests/mutation).
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

#include <shunt/inspect.h>

#include "../common/thread_state.h"
#include "counting.h"
#include "entries.h"
#include "linux/sync/sync_slots.h"
#include "nops_entry.h"
#include "tap.h"

#define TOO_LONG 5 /* seconds: the sync waits for 10, or for 1 and then looks again */

static pthread_mutex_t of_tracer = PTHREAD_MUTEX_INITIALIZER;
static _Atomic pid_t sleeper;
static _Atomic unsigned rounds; /* in which each thread has been sent the signal, or left */
static uint64_t blocked;

/* Behind the sending, before the waiting. */
void __real_shunt_sync_slots_drop(uint32_t round);
void __wrap_shunt_sync_slots_drop(uint32_t round);
void __wrap_shunt_sync_slots_drop(uint32_t round)
{
	__real_shunt_sync_slots_drop(round);
	if (rounds++)
		return;
	while (!thread_sleeps(sleeper))
		(void)sched_yield();
}

static void *sleep_later(void *arg)
{
	uint64_t before;

	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, &before, sizeof(blocked)))
		return NULL;
	sleeper = gettid();
	while (!rounds) /* runs, without a system call */
		;
	(void)pthread_mutex_lock(&of_tracer);
	(void)pthread_mutex_unlock(&of_tracer);
	return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(before)) ? NULL : arg;
}

static bool trace_beside(void)
{
	struct timespec from, to;
	void *good = NULL;
	pthread_t thread;
	bool is_traced;

	rounds = 0;
	sleeper = 0;
	(void)pthread_mutex_lock(&of_tracer);
	if (add_nops() || pthread_create(&thread, NULL, sleep_later, &good))
		return false;
	while (!sleeper)
		(void)sched_yield();
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	is_traced = !register_ftrace_function(&ops);
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	if (!is_traced)
		printf("# %s\n", shunt_last_error());
	(void)pthread_mutex_unlock(&of_tracer);
	(void)pthread_join(thread, &good);
	printf("# %u rounds\n", rounds);
	return is_traced && good && rounds == 1 && to.tv_sec - from.tv_sec < TOO_LONG &&
	       nops_entry(5) == 5 && called == 1;
}

static bool as_in_update(void)
{
	blocked = ~UINT64_C(0);
	for (const int *sig = (const int[]){SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, 0};
	     *sig; sig++)
		blocked &= ~(UINT64_C(1) << (*sig - 1));
	return trace_beside();
}

static bool with_all_blocked(void)
{
	blocked = ~UINT64_C(0);
	return trace_beside();
}

int main(void)
{
	row_in_child(as_in_update, "with the mask of an update");
	row_in_child(with_all_blocked, "with all signals blocked");
	return end_rows();
}
