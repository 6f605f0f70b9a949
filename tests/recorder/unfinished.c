/* SPDX-License-Identifier: MIT */
/*
 * Calls that do not return: in a thread that waits when the process exits, in one that has ended
 * before; by longjmp(), by exec(). Compiled by unfinished.py with entries that can be traced.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACED __attribute__((noinline, noclone))

static _Atomic int waits;
static jmp_buf back;

/* Until standard input ends. */
TRACED void hung(void)
{
	char byte;

	atomic_store(&waits, 1);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

TRACED void leaves(void)
{
	pthread_exit(NULL);
}

TRACED void returns(void)
{
	for (int i = 0; i < 1000; i++)
		(void)sched_yield();
}

TRACED void jumps(void)
{
	longjmp(back, 1);
}

static inline __attribute__((always_inline)) int wants(int turn)
{
	return turn & 1;
}

/* With -finstrument-functions wants() is told of at this one's place. */
TRACED void serves(const char *what)
{
	for (int i = 0; i < 20; i++)
		if (wants(i))
			(void)sched_yield();
	if (!strcmp(what, "serves"))
		exit(0);
	if (!strcmp(what, "serves long"))
		hung();
}

static void *run_hung(void *arg)
{
	hung();
	return arg;
}

static void *run_leaves(void *arg)
{
	leaves();
	return arg;
}

static void threads(void)
{
	pthread_t hangs, ends;

	if (pthread_create(&ends, NULL, run_leaves, NULL) || pthread_join(ends, NULL) ||
	    pthread_create(&hangs, NULL, run_hung, NULL))
		abort();
	while (!atomic_load(&waits))
		(void)sched_yield();
	returns();
	exit(0);
}

static void jump(void)
{
	for (int i = 0; i < 100; i++)
		if (!setjmp(back))
			jumps();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "threads"))
		threads();
	if (!strcmp(what, "jump"))
		jump();
	returns();
	if (!strncmp(what, "serve", 5))
		serves(what);
	if (!strcmp(what, "hung") || !strcmp(what, "killed"))
		hung();
	if (!strcmp(what, "exec"))
		return execl("/bin/true", "true", NULL);
	if (!strcmp(what, "killed"))
		return raise(SIGKILL);
	return 0;
}
