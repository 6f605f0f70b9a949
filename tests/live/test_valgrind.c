/* SPDX-License-Identifier: MIT */
/*
 * Under valgrind, whose memcheck has nothing to complain of: the stack, which is looked through for
 * a signal handler's frame, has words that nobody has initialised, and an end that cannot be read.
 * From main(), a thread with a stack of its own, and a signal handler.
 *
 * Control: a second build of this and of handler.c, which does not ask whether it is there.
 */
#ifdef CONTROL
#include "linux/base/valgrind.h"
#define shunt_ask_valgrind(request, arg1, arg2) 0L
#define shunt_is_translated()                   false
#include "linux/base/handler.c" /* NOLINT(bugprone-suspicious-include) */
#endif

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "linux/base/base.h"

#include "../api/tap.h"
#include "../common/call_site.h"
#include "../common/child.h"

static bool is_in_handler;

/* Under a frame that has not been written to. */
KEEP static int update_under(volatile char *uninitialised)
{
	(void)uninitialised;
	is_in_handler = shunt_may_be_in_handler();
	return static_call_update(call, two) || site() != 2 || static_call_update(call, one) ||
	       site() != 1;
}

KEEP static int update(void)
{
	volatile char uninitialised[20000];

	return update_under(uninitialised);
}

static void *in_thread(void *arg)
{
	*(int *)arg = update();
	return NULL;
}

static int handled = 1;

static void in_handler(int sig)
{
	(void)sig;
	handled = update();
}

/* 0, or what is wrong; memcheck sees to the rest. */
static int run(const char *where)
{
	pthread_t thread;
	int ret = 1;

	shunt_set_log(NULL, NULL);
	if (!strcmp(where, "main"))
		return update();
	if (!strcmp(where, "handler")) {
		(void)signal(SIGUSR1, in_handler);
		(void)raise(SIGUSR1);
		return handled ? 5 : !is_in_handler ? 6 : 0;
	}
	if (pthread_create(&thread, NULL, in_thread, &ret))
		return 2;
	(void)pthread_join(thread, NULL);
	return ret;
}

#define COMPLAINTS  42
#define NO_VALGRIND 43

static int under_valgrind(const char *program, const char *where)
{
	pid_t pid = fork();

	if (!pid) {
		(void)execlp("valgrind", "valgrind", "-q", "--error-exitcode=42", program, where,
			     NULL);
		_exit(NO_VALGRIND);
	}
	return child_status(pid);
}

int main(int argc, char **argv)
{
	static const char *const places[] = {"main", "thread", "handler"};

	if (argc > 1 && !strchr(argv[1], '/'))
		return run(argv[1]);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		int status = under_valgrind(argv[0], places[i]);

		if (status == NO_VALGRIND) {
			skip(places[i], "no valgrind");
			continue;
		}
		ok(!status, "under valgrind, %s: %d", places[i], status);
		status = argc > 1 ? under_valgrind(argv[1], places[i]) : -1;
		ok(status == COMPLAINTS, "control: it is not asked for: %d", status);
	}
	return tap_done();
}
