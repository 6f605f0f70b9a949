/* SPDX-License-Identifier: MIT */
/* shunt attach, shunt detach: the agent into a running process, and out of it. */
#include "shunt.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"
#include "quantity.h"
#include "remote.h"
#include "remote_common.h"

enum {
	DETACH_MS = 10000,
	ASK_MAX = 10,
	TIMEOUT_MAX = 86400,
	OPT_TIMEOUT = 256,
	OPT_SECCOMP,
	OPT_FIBRES,
	OPT_CHILDREN
};

static const char attach_usage[] =
	"attach [--timeout TIME] [--allow-seccomp] [--allow-fibres] [--children] PID\n\n"
	"Starts Shunt's agent in process PID, which goes on as if nothing had been.\n\n"
	"  --timeout TIME   how long to look for a thread (5s), and for free locks (30s)\n"
	"  --allow-seccomp  also where the process filters its system calls\n"
	"  --allow-fibres   also where the thread sleeps on a stack that is not its own\n"
	"  --children       children that it forks have agents, too, each to be detached\n\n"
	"example:\n"
	"  shunt attach 1234 && shunt list 1234";
static const char detach_usage[] =
	"detach PID\n\n"
	"Ends Shunt's agent in process PID, with all sessions of tracing.\n\n"
	"example:\n"
	"  shunt detach 1234";

static bool read_timeout(const char *text, unsigned *ms)
{
	unsigned long long ns;

	if (!tool_read_seconds(text, &ns) || ns > TIMEOUT_MAX * 1000000000ull) {
		tool_complain("attach: --timeout %s: not a time up to %d s, as 500ms, 10s", text,
			      TIMEOUT_MAX);
		return false;
	}
	*ms = (unsigned)(ns / 1000000);
	*ms += !*ms;
	return true;
}

/* What is done stays done, whatever becomes of what is said of it. @what: in words. */
static int end_output(const char *command, pid_t pid, const char *what)
{
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	tool_complain("%s: process %d: %s; standard output: %s", command, (int)pid, what,
		      strerror(errno));
	__fpurge(stdout); /* it is said once */
	clearerr(stdout);
	return EXIT_FAILURE;
}

static int attach(pid_t pid, const struct inject_options *options)
{
	struct inject_result result;
	int err = inject_agent(pid, options, &result);

	if (err) {
		tool_complain("attach: %s", result.why[0] ? result.why : strerror(-err));
		return EXIT_FAILURE;
	}
	if (result.was_there)
		(void)printf("%d: attached already%s\n", (int)pid,
			     result.was_temporary
				     ? " by a shunt trace -p; the agent stays behind its end"
				     : "");
	else
		(void)printf("%d: attached; thread %d was held for %.1f ms\n", (int)pid,
			     (int)result.tid, (double)result.held / 1e6);
	return end_output("attach", pid,
			  result.was_there ? "it was attached already" : "it is attached");
}

int cmd_attach(int argc, char **argv)
{
	static const struct option known[] = {
		{"timeout", required_argument, NULL, OPT_TIMEOUT},
		{"allow-seccomp", no_argument, NULL, OPT_SECCOMP},
		{"allow-fibres", no_argument, NULL, OPT_FIBRES},
		{"children", no_argument, NULL, OPT_CHILDREN},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct inject_options options = {0};
	int option;
	pid_t pid;

	optind = 1;
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (option == 'h') {
			(void)printf("usage: shunt %s\n", attach_usage);
			return 0;
		}
		if (option == OPT_SECCOMP)
			options.allow_seccomp = true;
		else if (option == OPT_FIBRES)
			options.allow_fibres = true;
		else if (option == OPT_CHILDREN)
			options.in_children = true;
		else if (option != OPT_TIMEOUT)
			return tool_usage(attach_usage);
		else if (!read_timeout(optarg, &options.timeout_ms))
			return EXIT_USAGE;
	}
	if (optind + 1 != argc)
		return tool_want_one(argc, argv, optind, "PID", attach_usage);
	return remote_read_pid("attach", argv[optind], &pid) ? attach(pid, &options) : EXIT_USAGE;
}

/* What stays of it there. */
static void say_rest(pid_t pid, char *reply)
{
	struct remote_line line = {0};
	char *at = reply;
	int more;

	while ((more = remote_next_line(&at, &line)) > 0) {
		const char *what = line.words[0], *value = line.words[1];

		if (!strcmp(what, "entries_left") && strcmp(value, "0") != 0)
			(void)printf("%d: entries that are not as in their files: %s\n", (int)pid,
				     value);
		else if (!strcmp(what, "why"))
			(void)printf("%d: text stays as it is: %s\n", (int)pid, value);
	}
	remote_line_free(&line);
	if (more)
		tool_complain("detach: process %d: no memory for its answer", (int)pid);
}

/*
 * Its answer in @reply, NULL where it has ended without one: a program may close the connection
 * meanwhile, and is asked again as long as the agent is there. 0; or -1 having complained.
 */
static int ask_to_end(pid_t pid, pid_t *agent, char **reply)
{
	static const char *const words[] = {"detach"};
	bool was_asked = false;
	char why[700];
	size_t size;
	int err = -ECONNRESET;

	for (int i = 0; i < ASK_MAX && (err == -ECONNRESET || err == -EPIPE); i++) {
		int fd = remote_connect(pid, why, sizeof(why));

		if (fd == -ENOENT && was_asked && !remote_agent_thread(pid))
			return 0;
		if (fd < 0) {
			tool_complain("detach: %s", why);
			return -1;
		}
		*agent = remote_agent_thread(pid);
		was_asked = true;
		err = remote_ask(fd, words, 1, -1, reply, &size, why, sizeof(why));
		(void)close(fd);
	}
	if (err)
		tool_complain("detach: process %d: %s", (int)pid, why);
	return err ? -1 : 0;
}

static int detach(pid_t pid)
{
	char *reply = NULL;
	pid_t agent = 0;

	if (ask_to_end(pid, &agent, &reply))
		return EXIT_FAILURE;
	if (!remote_wait_for_end(pid, agent, DETACH_MS)) {
		free(reply);
		tool_complain("detach: process %d: the agent (thread %d) has not ended in %d s",
			      (int)pid, (int)agent, DETACH_MS / 1000);
		return EXIT_FAILURE;
	}
	say_rest(pid, reply);
	free(reply);
	(void)printf("%d: detached\n", (int)pid);
	return end_output("detach", pid, "it is detached");
}

int cmd_detach(int argc, char **argv)
{
	static const struct option known[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int option;
	pid_t pid;

	optind = 1;
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (option != 'h')
			return tool_usage(detach_usage);
		(void)printf("usage: shunt %s\n", detach_usage);
		return 0;
	}
	if (optind + 1 != argc)
		return tool_want_one(argc, argv, optind, "PID", detach_usage);
	return remote_read_pid("detach", argv[optind], &pid) ? detach(pid) : EXIT_USAGE;
}
