/* SPDX-License-Identifier: MIT */
/*
 * The self-test: what is tried is tried in a child, as it would change this process, or end it. The
 * child says one line of how it went, through a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selftest_parts.h"

static void say_to_pipe(const char *line, void *arg)
{
	/* Short enough to be written whole; a parent that is gone wants nothing more. */
	(void)dprintf(*(int *)arg, "%s\n", line);
}

/* What the child said: how many lines, and of these "ok". */
struct heard {
	unsigned lines, good;
};

static struct heard forward_lines(int fd, struct report *r)
{
	struct heard heard = {0, 0};
	FILE *lines = fdopen(fd, "r");
	char line[REPORT_LINE];

	if (!lines) {
		(void)close(fd);
		return heard;
	}
	while (fgets(line, sizeof(line), lines)) {
		line[strcspn(line, "\n")] = '\0';
		heard.lines++;
		heard.good += !strncmp(line, "ok ", 3);
		r->missing += !strncmp(line, "MISSING ", 8);
		r->say(line, r->arg);
	}
	(void)fclose(lines);
	return heard;
}

static __attribute__((noreturn)) void child(const struct attempt *a, int ends[2])
{
	struct report r = {.say = say_to_pipe, .arg = &ends[1]};

	(void)close(ends[0]); /* it may be at its limit */
	(void)alarm(20); /* a hang is a failure too */
	a->run(&r, a);
	_exit(0);
}

/* Whether it ended by itself, and with something said. */
static bool has_ended_well(struct report *r, const struct attempt *a, struct heard heard,
			   int status)
{
	if (WIFSIGNALED(status))
		report_line(r, a->if_died, a->name,
			    "the process that tried it died of signal %d (%s)", WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else if (!WIFEXITED(status) || WEXITSTATUS(status) || !heard.lines)
		report_line(r, a->if_died, a->name,
			    "the process that tried it ended with status %d, and %s",
			    WEXITSTATUS(status), heard.lines ? "said the above" : "said nothing");
	else
		return true;
	return false;
}

bool try_in_child(struct report *r, const struct attempt *a)
{
	struct heard heard;
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC)) {
		report_line(r, a->if_not_tried, a->name, "not tried: pipe: %s", strerror(errno));
		return false;
	}
	pid = fork();
	if (pid == 0)
		child(a, ends);
	(void)close(ends[1]);
	if (pid < 0) {
		(void)close(ends[0]);
		report_line(r, a->if_not_tried, a->name, "not tried: fork: %s", strerror(errno));
		return false;
	}
	heard = forward_lines(ends[0], r);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return has_ended_well(r, a, heard, status) && heard.good;
}
