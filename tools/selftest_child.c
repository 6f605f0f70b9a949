/* SPDX-License-Identifier: MIT */
/*
 * The self-test: what is tried is tried in a child, as it would change this process, or end it. The
 * child says one line of how it went, in memory that both have: no descriptor is taken, of which
 * there may be few.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selftest_parts.h"

/* What the child has said: "" nothing. */
static char *said_by_child(void)
{
	static char *said;
	void *p;

	if (!said) {
		p = mmap(NULL, REPORT_LINE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			 0);
		said = p == MAP_FAILED ? NULL : p;
	}
	return said;
}

static void say_to_parent(const char *line, void *arg)
{
	(void)snprintf(arg, REPORT_LINE, "%s", line);
}

static __attribute__((noreturn)) void child(const struct attempt *a, char *said)
{
	struct report r = {.say = say_to_parent, .arg = said};

	(void)alarm(20); /* a hang is a failure too */
	a->run(&r, a);
	_exit(0);
}

static void pass_on(struct report *r, const char *line)
{
	r->missing += !strncmp(line, "MISSING ", 8);
	r->say(line, r->arg);
}

/* How its process ended, where that was not by itself and with something said. */
static bool has_ended_well(struct report *r, const struct attempt *a, bool has_said, int status)
{
	if (WIFSIGNALED(status))
		report_line(r, a->if_died, a->name,
			    "the process that tried it died of signal %d (%s)", WTERMSIG(status),
			    strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) || !has_said)
		report_line(r, a->if_died, a->name, "the process that tried it ended with %d",
			    WEXITSTATUS(status));
	else
		return true;
	return false;
}

bool try_in_child(struct report *r, const struct attempt *a)
{
	char *said = said_by_child();
	int status = 0;
	pid_t pid;

	if (!said) {
		report_line(r, a->if_not_tried, a->name, "not tried: mmap: %s", strerror(errno));
		return false;
	}
	*said = '\0';
	pid = fork();
	if (pid == 0)
		child(a, said);
	if (pid < 0) {
		report_line(r, a->if_not_tried, a->name, "not tried: fork: %s", strerror(errno));
		return false;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!has_ended_well(r, a, *said, status))
		return false; /* whatever it has said before */
	pass_on(r, said);
	return !strncmp(said, "ok ", 3);
}
