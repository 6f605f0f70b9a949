/* SPDX-License-Identifier: MIT */
/*
 * Copies of the process that are made in the middle of a core sync by signals: by the very
 * thread that makes it, as in a signal handler; and by another one, by a raw clone(), which
 * no fork handler sees. The copy has one thread, and lists and records of its parent's. It
 * must come to its own, and send nothing to the parent's threads.
 */
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync.h"

static _Atomic bool over, wanted;
static bool is_copy, by_other;
static int status;      /* of the copy */
static uint64_t strays; /* times that the bystander has served the copy */
static unsigned until;  /* the copy is made at that many calls of the hook from now */

static void *stand_by(void *arg)
{
	(void)arg;
	hook_thread(0);
	while (!atomic_load(&over))
		sched_yield();
	unhook_thread(0);
	return NULL;
}

static int check_updates(void)
{
	pthread_t thread;

	(void)pthread_create(&thread, NULL, stand_by, NULL);
	for (int i = 0; i < 10; i++)
		if (update_to(1) || call_it(1) != 11 || update_to(2) || call_it(1) != 12)
			return 1;
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
	return hook_counts.missing != 0;
}

/* The thread that is not updating. In its copy, nobody is. */
static void *clone_when_told(void *arg)
{
	long pid;

	(void)arg;
	hook_thread(1);
	while (!atomic_load(&wanted))
		if (atomic_load(&over))
			return NULL;
	pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid) {
		atomic_store(&hooked[0].present, false); /* it is not here */
		_exit(check_updates());
	}
	(void)waitpid((pid_t)pid, &status, 0);
	unhook_thread(1);
	atomic_store(&wanted, false);
	return NULL;
}

static void copy_here(void)
{
	uint64_t before = atomic_load(&hooked[0].times);
	pid_t pid;

	if (is_copy || --until)
		return;
	if (by_other) {
		atomic_store(&wanted, true);
		while (atomic_load(&wanted))
			sched_yield();
	} else {
		pid = fork();
		if (!pid) { /* and on, in the middle of the round */
			is_copy = true;
			unhook_thread(0);
			return;
		}
		(void)waitpid(pid, &status, 0);
	}
	if (atomic_load(&hook_list)) /* the round has sent none yet */
		strays += atomic_load(&hooked[0].times) - before;
}

static void at_list(struct shunt_tasks *tasks)
{
	(void)tasks;
	copy_here();
}

static void look_again(void)
{
	copy_here();
}

/* One update, in which a copy is made; whether both are right. */
static bool try_copy(bool other, bool listing, unsigned at)
{
	pthread_t thread;
	int ret;

	by_other = other;
	until = at;
	status = -1;
	if (other)
		(void)pthread_create(&thread, NULL, clone_when_told, NULL);
	if (other)
		while (!atomic_load(&hooked[1].present))
			sched_yield();
	hook_list = listing ? at_list : NULL;
	hook_wait = listing ? NULL : look_again;
	ret = update_to(3);
	hook_list = NULL;
	hook_wait = NULL;
	if (is_copy)
		_exit(ret || call_it(1) != 13 || (!hook_keeps_slots && check_updates()));
	if (other)
		(void)pthread_join(thread, NULL);
	return !ret && call_it(1) == 13 && !update_to(0) && status == 0;
}

int test_process_copies(void)
{
	pthread_t thread;
	unsigned good = 0;

	(void)pthread_create(&thread, NULL, stand_by, NULL);
	while (!atomic_load(&hooked[0].present))
		sched_yield();
	(void)update_to(1);
	for (unsigned at = 1; at <= 3; at++) { /* in each round of an update */
		for (int how = 0; how < 4; how++)
			if (try_copy(how & 1, how & 2, at))
				good++;
			else
				diag("by %s, at %s %u: status %x, %s",
				     how & 1 ? "another" : "itself", how & 2 ? "list" : "wait", at,
				     status, shunt_last_error());
	}
	ok(good == 12, "12 copies in the middle of a round, %u right", good);
	ok(!strays, "no thread of the parent was sent a signal by them: %llu",
	   (unsigned long long)strays);
	ok(!hook_counts.missing && !hook_counts.failed, "no thread was left out");
	hook_keeps_slots = true;
	good = try_copy(false, true, 1);
	ok(!good && status == 1 << 8, "control: with the parent's records it fails: status %x",
	   status);
	hook_keeps_slots = false;
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
	return tap_done();
}
