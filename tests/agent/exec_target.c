/* SPDX-License-Identifier: MIT */
/*
 * A process that executes itself again and again, until it is told to stop, and sleeps in between,
 * now shorter and now longer. Every second time another thread does it, while the first one sleeps.
 * Each image looks at what it was given.
 *
 *	exec_target FILE [ROUND]
 *
 * FILE is mapped: a word by which the test ends it, the rounds so far, what was wrong, how many
 * sleeps a signal has ended: a core sync by signals does where a sleep begins just then (shunt(7));
 * and how many milliseconds it sleeps at most, 0: 255.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { STOP, ROUNDS, WRONG, INTERRUPTED, MOST_MS };
enum { DESCRIPTORS = 1, MASK = 2, HANDLERS = 4, ARGUMENTS = 8, SLEPT = 16, NOT_EXECUTED = 32 };

static volatile uint64_t *words;
static char **arguments;
static long rounds;

__attribute__((noinline)) static long work(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

static void look_wrong(uint64_t what)
{
	words[WRONG] |= what;
}

/* The three that it was given, and that of the folder. */
static void look_at_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int n = 0;

	while (folder && readdir(folder))
		n++;
	if (n != 2 + 3 + 1)
		look_wrong(DESCRIPTORS);
	if (folder)
		(void)closedir(folder);
}

static void look_at_signals(void)
{
	struct sigaction action;
	sigset_t mask;

	(void)sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int sig = 1; sig < 65; sig++) {
		if (sig == 32 || sig == 33 || sig == SIGKILL || sig == SIGSTOP)
			continue; /* libc's own */
		if (sigismember(&mask, sig) != (sig == SIGUSR2))
			look_wrong(MASK);
		if (!sigaction(sig, NULL, &action) &&
		    action.sa_handler != (sig == SIGPIPE ? SIG_IGN : SIG_DFL))
			look_wrong(HANDLERS);
	}
}

/* 1 to 255 ms, in a row that has no pattern. */
static void rest(void)
{
	long ms = 1 + (rounds * 7919 % 257) * (rounds % 4 ? 1 : 0) / (1 + rounds % 3);
	struct timespec time = {0, 0};

	if (words[MOST_MS])
		ms %= (long)words[MOST_MS] + 1;
	time.tv_nsec = ms * 1000000;
	if (!nanosleep(&time, NULL))
		return;
	if (errno == EINTR)
		words[INTERRUPTED]++;
	else
		look_wrong(SLEPT);
}

static void execute(void)
{
	char text[32];
	char *next[] = {arguments[0], arguments[1], text, NULL};

	(void)snprintf(text, sizeof(text), "%ld", rounds + 1);
	words[ROUNDS] = (uint64_t)work(rounds);
	(void)execv(arguments[0], next);
	look_wrong(NOT_EXECUTED);
}

static void *execute_later(void *unused)
{
	rest();
	execute();
	return unused;
}

static void start(void)
{
	sigset_t mask;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGUSR2);
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pthread_t thread;

	if (p == MAP_FAILED)
		return 2;
	(void)close(fd);
	words = p;
	arguments = argv;
	rounds = argc > 2 ? atol(argv[2]) : 0;
	if (!rounds)
		start();
	if (rounds && (uint64_t)rounds != words[ROUNDS])
		look_wrong(ARGUMENTS);
	look_at_descriptors();
	look_at_signals();
	while (!words[STOP]) {
		if (rounds % 2 && !pthread_create(&thread, NULL, execute_later, NULL))
			for (;;)
				(void)pause();
		rest();
		execute();
	}
	return words[WRONG] ? 1 : 0;
}
