/* SPDX-License-Identifier: MIT */
/*
 * A process of one thread that forks all the time, and sleeps in one of its handlers of
 * pthread_atfork() nearly all the time.
 *
 *	attach_fork prepare|parent|nested MS
 *
 * In "nested" the parent's handler forks, too, and calls system(). A line for each round; it ends
 * where a child is not as it was to be.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long ms;
static bool forks, is_in_handler;

static bool fork_one(void)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid)
		_exit(3);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 3;
}

static void sleep_here(void)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	if (is_in_handler)
		return;
	is_in_handler = true;
	if (forks && (!fork_one() || system("exit 5") != 5 << 8)) /* NOLINT(cert-env33-c) */
		_exit(4);
	while (nanosleep(&time, &time))
		;
	is_in_handler = false;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	ms = strtol(argv[2], NULL, 10);
	forks = !strcmp(argv[1], "nested");
	if (pthread_atfork(!strcmp(argv[1], "prepare") ? sleep_here : NULL,
			   strcmp(argv[1], "prepare") != 0 ? sleep_here : NULL, NULL))
		return 2;
	for (;;) {
		if (!fork_one())
			return 1;
		(void)puts("round");
		(void)fflush(stdout);
	}
}
