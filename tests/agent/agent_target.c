/* SPDX-License-Identifier: MIT */
/* A program with keys, choices and an entry to trace, and what else its arguments ask for. */
#include <shunt/control.h>
#include <shunt/static_key.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int plus_one(int x)
{
	return x + 1;
}

static int plus_two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(op, plus_one);
STATIC_CALL_CHOICE(op, plus_one);
STATIC_CALL_CHOICE(op, plus_two);
DEFINE_STATIC_KEY_FALSE(debug);

/* More choices than anybody has. */
DEFINE_STATIC_CALL(many, plus_one);
/* clang-format off */
#define C1   STATIC_CALL_CHOICE(many, plus_two)
#define C4   C1; C1; C1; C1
#define C16  C4; C4; C4; C4
#define C64  C16; C16; C16; C16
#define C320 C64; C64; C64; C64; C64
/* clang-format on */
C320;

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5, 0)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5, 0)))
#endif

TRACED static int traced(int x)
{
	return static_call(op)(x) + static_branch_unlikely(&debug);
}

static void leave(int sig)
{
	(void)sig;
	exit(0);
}

/* A child each time, and a byte on standard output when it has ended. */
static void fork_often(void)
{
	for (;;) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return;
		(void)traced(1);
		(void)!write(STDOUT_FILENO, ".", 1);
		(void)usleep(1000);
	}
}

static volatile sig_atomic_t is_to_fork;

static void ask_for_child(int sig)
{
	(void)sig;
	is_to_fork = 1;
}

/* The child goes on as its parent does. */
static void fork_where_asked(void)
{
	if (!is_to_fork)
		return;
	is_to_fork = 0;
	if (fork())
		return;
	(void)traced(1);
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int sum = 0;

	if (strcmp(what, "env") && shunt_agent_start())
		return 1;
	if (!strcmp(what, "fork") && fork() < 0)
		return 1;
	if (!strcmp(what, "closed"))
		for (int fd = 3; fd < 1024; fd++)
			(void)close(fd);
	(void)signal(SIGUSR1, leave);
	(void)signal(SIGUSR2, ask_for_child);
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
	if (!strcmp(what, "idle"))
		for (;;)
			(void)pause();
	if (!strcmp(what, "forking"))
		fork_often();
	for (;;) {
		sum += traced(sum);
		fork_where_asked();
		(void)usleep(1000);
	}
}
