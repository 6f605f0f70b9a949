/* SPDX-License-Identifier: MIT */
/* A session in a process without any entry to trace is refused, and why is said. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"
#include "remote_common.h"
#include "remote_trace.h"
#include "shunt.h"
#include "trace_words.h"

/* The words of the agent's lines, src/agent/list.c. */
enum { FUNCTIONS = 2, TRACEABLE };
enum { FN_NAME = 1, FN_KIND = 3, FN_WHY = 5 };

/* The number that "stats" has of the name; -1: it cannot be asked, and was complained of. */
static long long ask_stat(pid_t pid, int agent, const char *name)
{
	static const char *const words[] = {"stats"};
	struct remote_line line = {0};
	long long number = -1;
	char *reply, *at;

	if (remote_request("trace", pid, agent, words, 1, -1, &reply))
		return -1;
	at = reply;
	while (remote_next_row("trace", &at, &line) > 0)
		if (!strcmp(line.words[0], name))
			number = strtoll(line.words[1], NULL, 10);
	remote_line_free(&line);
	free(reply);
	return number;
}

/* How many functions there are, and how many of them have an entry. 0, or -1 having complained. */
static int count(pid_t pid, int agent, long long *functions, long long *traceable)
{
	static const char *const words[] = {"modules"};
	struct remote_line line = {0};
	char *reply, *at;

	*functions = *traceable = 0;
	if (remote_request("trace", pid, agent, words, 1, -1, &reply))
		return -1;
	at = reply;
	while (remote_next_row("trace", &at, &line) > 0) {
		*functions += strtoll(line.words[FUNCTIONS], NULL, 10);
		*traceable += strtoll(line.words[TRACEABLE], NULL, 10);
	}
	remote_line_free(&line);
	free(reply);
	return 0;
}

/* How many entries cannot be used, and why not the first. false: there is none, or they cannot be
 * asked for. */
static bool why_unusable(pid_t pid, int agent, char *why, size_t size)
{
	static const char *const words[] = {"functions"};
	struct remote_line line = {0};
	char *reply, *at, first[300] = "";
	size_t n = 0;

	if (remote_request("trace", pid, agent, words, 1, -1, &reply))
		return false;
	at = reply;
	while (remote_next_row("trace", &at, &line) > 0) {
		remote_make_printable(&line);
		if (!strcmp(line.words[FN_KIND], "none") || !line.words[FN_WHY][0] || n++)
			continue;
		(void)snprintf(first, sizeof(first), "%.100s: %.180s", line.words[FN_NAME],
			       line.words[FN_WHY]);
	}
	remote_line_free(&line);
	free(reply);
	(void)snprintf(why, size, "%zu entr%s cannot be used (%s)", n, n == 1 ? "y" : "ies", first);
	return n != 0;
}

int remote_check_traceable(pid_t pid, int agent)
{
	char why[400];
	long long traced = ask_stat(pid, agent, "trace_functions"), functions, traceable;

	if (traced)
		return traced < 0 ? -1 : 0;
	if (count(pid, agent, &functions, &traceable))
		return -1;
	if (traceable)
		tool_complain("trace: process %d: of %lld function%s that could be traced "
			      "the filters leave none",
			      (int)pid, traceable, tool_plural((size_t)traceable));
	else if (why_unusable(pid, agent, why, sizeof(why)))
		tool_complain("trace: process %d: none of its functions can be traced: %s",
			      (int)pid, why);
	else
		tool_complain(
			"trace: process %d: none of its functions can be traced, of %lld that "
			"have names: " TRACE_NO_ENTRIES,
			(int)pid, functions);
	return -1;
}
