/* SPDX-License-Identifier: MIT */
/*
 * Rows: the process is copied in the middle of an update, in each way that there is; parent
 * and child then update on. A child must find its sites whole and its own, and the parent must
 * not see what the child does to its text.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile.h"

#define FORKERS 3

static struct row *row;

/* ---------------------------------------------------------------- parent and child */

enum { GOOD, BAD_RESULT, BAD_UPDATE, BAD_STATE };

/* In a copy: is all whole, and does it change when it is changed? */
static int live_on(void)
{
	if (try_site() < 0)
		return BAD_RESULT;
	if (try_update()) /* of a raw clone: takes the parent's back before */
		return BAD_UPDATE;
	for (int i = 0; i < 2; i++) {
		int before = try_site();

		if (before != key_is_new())
			return BAD_STATE;
		if (try_update())
			return BAD_UPDATE;
		if (try_site() != !before)
			return BAD_STATE;
	}
	return GOOD;
}

static void judge(pid_t child)
{
	int status = -1;

	if (child < 0) {
		failed(row, "no child");
		return;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		failed(row, "a child was killed");
	else if (WEXITSTATUS(status) == BAD_UPDATE)
		failed(row, "a child cannot update");
	else if (status)
		failed(row, "a child's site is wrong");
	provoked(row, 1);
}

/*
 * The parent's site must be where the parent's own updates put it. Its children make an odd
 * number of updates or so: were anything shared, it would be seen here.
 */
static void update_and_look(struct row *r)
{
	static int own;

	own = !own;
	MUST(r, !try_update());
	if (try_site() != own)
		failed(r, "the parent's site is wrong");
}

static _Atomic bool wanted, over;

/* A held update waits for a copy to be made. */
static void wait_for_copy(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

/* Updates, each held until @copier has made its copy. */
static void update_beside(struct row *r, void *(*copier)(void *))
{
	pthread_t thread;

	row = r;
	MUST(r, !pthread_create(&thread, NULL, copier, NULL));
	while (more(r)) {
		hold_next(wait_for_copy, NULL);
		update_and_look(r);
	}
	atomic_store(&over, true);
	MUST(r, !pthread_join(thread, NULL));
}

/* For the copier: is it wanted? */
static bool is_wanted(void)
{
	(void)sched_yield();
	return atomic_load(&wanted);
}

static pid_t raw_clone(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* --------------------------------------- another thread, by a raw clone, half way */

static pid_t copy_now(void)
{
	pid_t child = raw_clone();

	if (!child)
		_exit(live_on());
	return child;
}

static void *clone_until_done(void *arg)
{
	while (!atomic_load(&over)) {
		pid_t child;

		if (!is_wanted())
			continue;
		child = copy_now();
		atomic_store(&wanted, false);
		judge(child);
	}
	return arg;
}

static void row_raw_clone(struct row *r)
{
	if (r->is_control)
		take_repair_out();
	update_beside(r, clone_until_done);
}

/* --------------------------------------------------------------- fork, by many threads */

static void *fork_until_done(void *arg)
{
	while (more(row)) {
		pid_t child;

		go_through(row);
		child = fork();
		if (!child)
			_exit(live_on());
		judge(child);
	}
	return arg;
}

/* The fork does not wait for the update: the child takes it back. */
static void row_fork(struct row *r)
{
	pthread_t threads[FORKERS];

	if (r->is_control) { /* the child that takes nothing back */
		row_raw_clone(r);
		return;
	}
	row = r;
	for (int i = 0; i < FORKERS; i++)
		MUST(r, !pthread_create(&threads[i], NULL, fork_until_done, NULL));
	while (more(r)) {
		update_and_look(r);
		(void)sched_yield();
	}
	for (int i = 0; i < FORKERS; i++)
		MUST(r, !pthread_join(threads[i], NULL));
}

/* ------------------------------------- the updating thread itself, in a handler */

static pid_t copied;
static bool is_copy;

static void on_copy(int sig)
{
	copied = sig == SIGBUS ? raw_clone() : fork();
	if (copied)
		return;
	is_copy = true;
	if (try_site() < 0)
		_exit(BAD_RESULT);
	if (try_update() != -EDEADLK) /* the copy is in the middle of an update, too */
		_exit(BAD_UPDATE);
}

static void raise_it(void *arg)
{
	(void)raise(*(int *)arg);
}

/* The copy comes back from the update as the parent does; then their ways part. */
static void copy_in_handler(struct row *r, int sig)
{
	row = r;
	if (r->is_control)
		take_poke_out();
	MUST(r, signal(sig, on_copy) != SIG_ERR);
	while (more(r)) {
		int before = try_site();

		hold_next(raise_it, &sig);
		MUST(r, !try_update());
		if (try_site() != !before && !is_copy)
			failed(r, "the parent's site is wrong");
		if (is_copy)
			_exit(try_site() != !before ? BAD_STATE : live_on());
		judge(copied);
	}
}

static void row_clone_in_handler(struct row *r)
{
	copy_in_handler(r, SIGBUS);
}

static void row_fork_in_handler(struct row *r)
{
	copy_in_handler(r, SIGSYS);
}

/* --------------------------------------------------- children that share memory, or not */

static void *vfork_until_done(void *arg)
{
	while (!atomic_load(&over)) {
		pid_t child;

		if (!is_wanted())
			continue;
		child = vfork();
		if (!child) /* in the parent's memory, in the middle of its update */
			_exit(try_site() < 0 ? BAD_RESULT : GOOD);
		atomic_store(&wanted, false);
		judge(child);
	}
	return arg;
}

static void row_vfork(struct row *r)
{
	if (r->is_control)
		take_poke_out();
	update_beside(r, vfork_until_done);
}

/* Children in the parent's own memory, which update: this must be seen. */
static void share_memory(struct row *r)
{
	row = r;
	while (more(r)) {
		pid_t child;

		update_and_look(r);
		child = vfork();
		if (!child)
			_exit(live_on());
		judge(child);
	}
}

/* This program once more, "live-on": the new one has its own state, and updates. */
static void *spawn_until_done(void *arg)
{
	char self[] = "/proc/self/exe", what[] = "--live-on", flip[] = "--live-on-by-flip";
	char *argv[] = {self, row->way == FLIP ? flip : what, NULL};

	while (!atomic_load(&over)) {
		pid_t child;

		if (!is_wanted())
			continue;
		if (posix_spawn(&child, self, NULL, NULL, argv, environ))
			child = -1;
		atomic_store(&wanted, false);
		judge(child);
	}
	return arg;
}

static void row_spawn(struct row *r)
{
	if (r->is_control)
		share_memory(r);
	else
		update_beside(r, spawn_until_done);
}

#define CHILDREN "children, each copied in the middle of an update, which update on"

static struct row rows[] = {
	{.name = "fork",
	 .title = "forks from many threads while another updates",
	 .unit = "children that update on",
	 .run = row_fork,
	 .times = 600,
	 .int3 = HOLDS,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "raw clone(), no repair in the child",
	 .control_by_remap = true /* an int3 that is left does the right thing */},
	{.name = "raw-clone",
	 .title = "copies itself by a raw clone() in another thread's update",
	 .unit = CHILDREN,
	 .run = row_raw_clone,
	 .times = 500,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "no repair in the child",
	 .control_by_remap = true /* an int3 that is left does the right thing */},
	{.name = "clone-in-handler",
	 .title = "copies itself by a raw clone() in a signal handler of the updating thread",
	 .unit = CHILDREN,
	 .run = row_clone_in_handler,
	 .times = 500,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "no poke, torn writes"},
	{.name = "fork-in-handler",
	 .title = "forks in a signal handler of the updating thread",
	 .unit = CHILDREN,
	 .run = row_fork_in_handler,
	 .times = 500,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "no poke, torn writes"},
	{.name = "vfork",
	 .title = "calls vfork() in the middle of another thread's update",
	 .unit = "children that come through the site in the parent's update",
	 .run = row_vfork,
	 .times = 500,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "no poke, torn writes"},
	{.name = "posix_spawn",
	 .title = "calls posix_spawn() in the middle of another thread's update",
	 .unit = "programs started, which update on",
	 .run = row_spawn,
	 .times = 200,
	 .not_tsan = true,
	 .flip = true,
	 .seconds = 20,
	 .control = "children share memory"},
	{0},
};

int main(int argc, char **argv)
{
	if (argc == 2 && !strncmp(argv[1], "--live-on", 9)) {
		if (argv[1][9])
			change_by_flip();
		return live_on();
	}
	return hostile_main(argc, argv, rows);
}
