/* SPDX-License-Identifier: MIT */
/*
 * `shunt selftest`: whether live patching works on this machine, with this kernel,
 * in this container. It looks at what the kernel allows (selftest_system.c), then pokes sites of
 * its own of every form (selftest_forms.c), in each way of poking (selftest_ways.c), and executes
 * each while it is poked, for real; then it traces a function of each kind of entry
 * (selftest_trace.c). A trap that is not handled ends a process, so all of this happens in a
 * child, one for each way and kind.
 */
#include "selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "selftest_parts.h"
#include "shunt.h"

#define USAGE                                                                 \
	"selftest\n"                                                          \
	"Try on this machine whether sites can be poked while they execute. " \
	"Exit status 0: yes.\n"                                               \
	"\n"                                                                  \
	"example:\n"                                                          \
	"  shunt selftest"

/* ------------------------------------------------------------------------ the child */

static void say_to_pipe(const char *line, void *arg)
{
	/* Short enough to be written whole; a parent that is gone wants nothing more. */
	(void)dprintf(*(int *)arg, "%s\n", line);
}

static void forward_lines(int fd, struct report *r)
{
	FILE *lines = fdopen(fd, "r");
	char line[512];

	if (!lines) {
		(void)close(fd);
		return;
	}
	while (fgets(line, sizeof(line), lines)) {
		line[strcspn(line, "\n")] = '\0';
		r->say(line, r->arg);
	}
	(void)fclose(lines);
}

/* What a child tries: a way of poking, or to trace a function. */
struct attempt {
	const char *name;
	const struct way *way; /* NULL: @traced */
	const struct traced *traced;
};

/* What a child that ended so says about the attempt. */
static bool report_exit(struct report *r, const struct attempt *a, int status)
{
	if (WIFSIGNALED(status))
		report_line(r, "MISSING", a->name,
			    "the process that was poked died of signal %d (%s)", WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else if (!WIFEXITED(status) || WEXITSTATUS(status))
		report_line(r, "MISSING", a->name, "does not work here");
	else
		return true;
	return false;
}

static bool try_in_child(struct report *r, const struct attempt *a)
{
	struct report child = {.say = say_to_pipe};
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC)) {
		report_line(r, "MISSING", a->name, "pipe: %s", strerror(errno));
		return false;
	}
	pid = fork();
	if (pid == 0) {
		child.arg = &ends[1];
		(void)alarm(20); /* a hang is a failure too */
		if (a->way)
			try_way(&child, a->way);
		else
			try_traced(&child, a->traced);
		_exit(child.missing != 0);
	}
	(void)close(ends[1]);
	if (pid < 0) {
		(void)close(ends[0]);
		report_line(r, "MISSING", a->name, "fork: %s", strerror(errno));
		return false;
	}
	forward_lines(ends[0], r);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return report_exit(r, a, status);
}

static enum shunt_poke_policy policy_named(const char *name)
{
	for (size_t i = 0; i < WAYS; i++)
		if (!strcmp(name, ways[i].name))
			return ways[i].policy;
	return SHUNT_POKE_AUTO;
}

int selftest_run(void (*say)(const char *line, void *arg), void *arg)
{
	struct report r = {.say = say, .arg = arg};
	const char *works = NULL;
	enum shunt_poke_policy policy;
	struct shunt_ways now;

	report_system(&r);
	shunt_get_ways(&now);
	policy = policy_named(now.policy);
	for (size_t i = 0; i < WAYS; i++) {
		struct attempt a = {ways[i].name, &ways[i], NULL};

		if (ways[i].needs_traps && !SHUNT_HAS_TRAPS)
			continue;
		/* Without traps every change is a flip, whatever the policy. */
		if (try_in_child(&r, &a) && (ways[i].policies >> policy & 1 || !SHUNT_HAS_TRAPS) &&
		    !works)
			works = ways[i].name;
	}
	for (const struct traced *t = traced; t->name; t++) {
		struct attempt a = {t->name, NULL, t};

		(void)try_in_child(&r, &a);
	}
	if (works)
		report_line(&r, "ok", "poking", "works by way of %s (policy %s)", works,
			    now.policy);
	else
		report_line(&r, "MISSING", "poking", "does not work here (policy %s)", now.policy);
	return works ? 0 : -1;
}

/* ---------------------------------------------------------------------- the command */

static void say_to_stdout(const char *line, void *arg)
{
	(void)arg;
	(void)puts(line);
	(void)fflush(stdout); /* before a fork, and in case the machine dies */
}

int cmd_selftest(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c != 'h')
			return tool_usage(USAGE);
		(void)puts("usage: shunt " USAGE);
		return 0;
	}
	if (optind != argc) {
		tool_complain("no argument is expected: %s", argv[optind]);
		return tool_usage(USAGE);
	}
	return selftest_run(say_to_stdout, NULL) ? 1 : 0;
}
