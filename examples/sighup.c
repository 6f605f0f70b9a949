/* SPDX-License-Identifier: MIT */
/*
 * A server whose log level and whose rules are read again on SIGHUP, as servers do it: the handler
 * only says that it has come, a thread of its own reads the file and updates. What the workers do
 * changes between two requests; level and rule change together, by a batch, or not at all.
 *
 *	cc -pthread sighup.c $(pkg-config --cflags --libs shunt) -o server && ./server
 */
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int accept_all(int request)
{
	(void)request;
	return 1;
}

static int accept_even(int request)
{
	return request % 2 == 0;
}

DEFINE_STATIC_CALL(rule, accept_all);
DEFINE_STATIC_KEY_FALSE(debug);

static _Atomic unsigned long accepted, refused, lines;

static void handle(int request)
{
	if (static_branch_unlikely(&debug))
		atomic_fetch_add(&lines, 1); /* a server would write one */
	atomic_fetch_add(static_call(rule)(request) ? &accepted : &refused, 1);
}

/* Both settings of the file, or none. */
static int apply(const char *line)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int err = static_call_batch_add(&batch, rule,
					strstr(line, "even") ? accept_even : accept_all);

	if (!err)
		err = strstr(line, "debug") ? static_branch_batch_enable(&batch, &debug)
					    : static_branch_batch_disable(&batch, &debug);
	if (!err)
		err = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return err;
}

static int reload(const char *path)
{
	char line[80] = "";
	FILE *f = fopen(path, "r");
	int err = f && fgets(line, sizeof(line), f) ? apply(line) : -1;

	if (f)
		fclose(f);
	return err;
}

static const char *config;
static _Atomic unsigned reloads;

/* SIGHUP is blocked everywhere, and waited for here: no code runs in a handler. */
static void *wait_for_hangup(void *arg)
{
	sigset_t *set = arg;
	int signal;

	while (!sigwait(set, &signal) && signal == SIGHUP)
		if (!reload(config))
			atomic_fetch_add(&reloads, 1);
	return NULL;
}

static int change(const char *settings)
{
	unsigned before = atomic_load(&reloads);
	FILE *f = fopen(config, "w");

	if (!f || fprintf(f, "%s\n", settings) < 0 || fclose(f))
		return -1;
	kill(getpid(), SIGHUP); /* what an administrator does */
	while (atomic_load(&reloads) == before)
		usleep(1000);
	return 0;
}

static void serve(const char *when)
{
	atomic_store(&accepted, 0);
	atomic_store(&refused, 0);
	atomic_store(&lines, 0);
	for (int request = 0; request < 1000; request++)
		handle(request);
	printf("%s: %lu accepted, %lu refused, %lu lines of log\n", when, atomic_load(&accepted),
	       atomic_load(&refused), atomic_load(&lines));
}

int main(void)
{
	char path[] = "/tmp/sighup.XXXXXX";
	int fd = mkstemp(path);
	pthread_t thread;
	sigset_t set;

	config = path;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	if (fd < 0 || pthread_sigmask(SIG_BLOCK, &set, NULL) ||
	    pthread_create(&thread, NULL, wait_for_hangup, &set))
		return 1;
	close(fd);
	serve("as it starts");
	if (change("even debug"))
		return 1;
	serve("even, debug");
	if (change("all"))
		return 1;
	serve("all, quiet");
	pthread_kill(thread, SIGTERM); /* ends it */
	pthread_join(thread, NULL);
	unlink(path);
	return 0;
}
