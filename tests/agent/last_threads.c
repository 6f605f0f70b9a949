/* SPDX-License-Identifier: MIT */
/*
 * A process whose threads end by pthread_exit(). Its words: "thread", a second one, which goes on
 * when the first has ended until it reads a byte; "fork", the second one forks, and the child does
 * what is asked for; "close", all descriptors but the first three are closed; "full", there is none
 * left; "masked", SIGTERM is blocked, and pending; "exec", it is executed anew. The first thread
 * ends at the first byte that it reads.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5, 0)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5, 0)))
#endif

static bool has_word(char **argv, const char *word)
{
	while (*++argv)
		if (!strcmp(*argv, word))
			return true;
	return false;
}

TRACED static void wait_for_byte(void)
{
	char byte;

	if (read(STDIN_FILENO, &byte, 1) != 1)
		_exit(3);
}

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(3);
}

/* With more of a stack than the agent's thread has. */
static void leave(void)
{
	char room[1 << 20];

	memset(room, 1, sizeof(room));
	__asm__ volatile("" : : "r"(room) : "memory");
	say("exit\n");
}

static void *second(void *arg)
{
	char **argv = arg;
	int status = 0;

	if (has_word(argv, "fork")) {
		pid_t pid = fork();

		if (pid) {
			(void)waitpid(pid, &status, 0);
			say(status ? "bad child\n" : "child\n");
			return NULL;
		}
	}
	wait_for_byte();
	say("second\n");
	return NULL;
}

int main(int argc, char **argv)
{
	char line[16];
	pthread_t thread;

	(void)argc;
	(void)atexit(leave);
	(void)snprintf(line, sizeof(line), "%d\n", (int)getpid());
	say(line);
	wait_for_byte();
	if (has_word(argv, "masked")) {
		sigset_t set;

		(void)sigemptyset(&set);
		(void)sigaddset(&set, SIGTERM);
		(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
		(void)kill(getpid(), SIGTERM);
	}
	if (has_word(argv, "exec"))
		(void)execl("/proc/self/exe", argv[0], NULL);
	for (int fd = 3; has_word(argv, "close") && fd < 4096; fd++)
		(void)close(fd);
	while (has_word(argv, "full") && dup(STDIN_FILENO) >= 0)
		;
	if ((has_word(argv, "thread") || has_word(argv, "fork")) &&
	    pthread_create(&thread, NULL, second, argv))
		return 4;
	pthread_exit(NULL);
}
