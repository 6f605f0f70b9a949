/* SPDX-License-Identifier: MIT */
/*
 * What the files of the tests of the core sync by signals share.
 *
 *	hooks.c     around the port: counts who serialises in which round
 *	main.c      which test to run, under which seccomp filter; costs
 *	torture.c   calls and updates by the thousand, threads that come and go
 *	program_signals.c   what the program does with signals, fork and vfork
 *	stopped.c   threads that are stopped, traced, or born in the middle of a round
 *	process_copies.c    copies of the process that are made in the middle of a round
 *	full_queue.c        no signals can be sent: RLIMIT_SIGPENDING
 *	executed.c          a thread executes another program
 *	thread_resources.c  threads with little stack, and what those that are gone leave
 */
#ifndef TESTS_SYNC_H
#define TESTS_SYNC_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"

#include "linux/base/tasks.h"
#include "linux/sync/serialise.h"

/* ---------------------------------------------------------------------- hooks.c */

#define HOOKED 128

/* The threads that each round is checked for. */
struct hooked {
	_Alignas(64) _Atomic bool present;
	_Atomic uint32_t last;  /* the round in which it serialised last */
	_Atomic uint64_t times; /* that it has */
};

extern struct hooked hooked[HOOKED];
void hook_thread(unsigned index); /* the calling thread, from now on */
void unhook_thread(unsigned index);

extern struct hook_counts {
	_Atomic uint64_t rounds;  /* syncs that returned 0 */
	_Atomic uint64_t failed;  /* and that did not */
	_Atomic uint64_t missing; /* threads that had not serialised when a sync returned 0 */
	_Atomic uint64_t lists, incomplete; /* of threads */
} hook_counts;

/* What is taken out: the negative controls. */
extern _Atomic bool hook_skips_a_thread, hook_does_not_wait, hook_keeps_slots;

/* Threads are ready to run and never do. */
extern _Atomic bool hook_starves;

/* How often a second counts as one: for what ends by running out of patience alone. */
extern _Atomic unsigned hook_clock_rate;

/* Called in the middle of a round, where they are set: behind a listing; before each wait. */
extern void (*_Atomic hook_list)(struct shunt_tasks *tasks);
extern void (*_Atomic hook_wait)(void);
/* And what is to be made of what a look at a thread has said. */
extern enum shunt_task (*_Atomic hook_look)(int32_t tid, enum shunt_task task);

/* ------------------------------------------------------------------- the call */

#define FUNCTIONS 4
long function_0(long x);
DECLARE_STATIC_CALL(synced, function_0);
KEEP long call_it(long x);                       /* through the site */
extern long (*const functions[FUNCTIONS])(long); /* x -> 10 x + the index */
KEEP int update_to(unsigned index);

/* ---------------------------------------------------------------------- helpers */

long raw_tid(void);
char task_state(long tid);        /* of /proc/self/task/TID/stat */
void wait_until_asleep(long tid); /* in the kernel; or it has ended */
int chosen_signal(void);          /* the real-time signal that has a handler; 0: none */
bool text_is(const uint8_t *copy, uint8_t *into); /* compare with, or copy to */

int test_torture(void), test_signal_storm(void), test_controls(void), test_forced(void);
int test_signal_blocked(void), test_signal_handler(void), test_restarted_calls(void),
	test_fork_vfork(void);
int test_leader_exits(void), test_io_uring(void);
int test_sigwait(void), test_stopped(void), test_debugged(void), test_signal_consumed(void),
	test_new_threads(void);
int test_process_copies(void), test_thread_resources(void), test_full_queue(void);
int test_executed(void), executed_image(int sig);

/* In a thread that is made by one in the middle of an update, whose signals are blocked. */
static inline void unblock_signals(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

#endif
