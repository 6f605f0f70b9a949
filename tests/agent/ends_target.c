/* SPDX-License-Identifier: MIT */
/*
 * A process that does what is said, a byte each, and says so by the same byte: 'c' calls a function
 * 1000 times; 'r' lets files be no longer than 16 KiB; 'd' closes all descriptors from 3 on; 'D'
 * does so every 30 ms from then on; 't' starts a thread that sleeps; 's' starts the agent, if it is
 * there; and it ends by 'x', exit(); 'a', abort(); 'k', SIGKILL; 'p', pthread_exit().
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5, 0)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5, 0)))
#endif

TRACED static void called(void)
{
	__asm__ volatile("" : : : "memory");
}

static void close_all(void)
{
	for (int fd = 3; fd < 1024; fd++)
		(void)close(fd);
}

static void *closer(void *arg)
{
	for (;; (void)usleep(30000))
		close_all();
	return arg;
}

static void *sleeper(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

static void start(void *(*run)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, NULL))
		_exit(3);
}

static void start_agent(void)
{
	int (*agent)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "shunt_agent_start");

	if (!agent || agent())
		_exit(4);
}

static void do_this(char what)
{
	const struct rlimit size = {16 << 10, 16 << 10};

	for (int i = 0; what == 'c' && i < 1000; i++)
		called();
	if (what == 'r' && (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &size)))
		_exit(3);
	if (what == 'd')
		close_all();
	if (what == 'D')
		start(closer);
	if (what == 't')
		start(sleeper);
	if (what == 's')
		start_agent();
	if (what == 'x')
		exit(0); /* NOLINT(concurrency-mt-unsafe): no other thread does */
	if (what == 'a')
		abort();
	if (what == 'k')
		(void)raise(SIGKILL);
	if (what == 'p')
		pthread_exit(NULL);
}

int main(void)
{
	char line[16], what;

	int n = snprintf(line, sizeof(line), "%d\n", (int)getpid());

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		return 3;
	while (read(STDIN_FILENO, &what, 1) == 1) {
		do_this(what);
		if (write(STDOUT_FILENO, &what, 1) != 1)
			return 3;
	}
	return 0;
}
