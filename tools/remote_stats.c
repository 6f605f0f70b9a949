/* SPDX-License-Identifier: MIT */
/* `shunt stats` and `shunt snapshot`: the counters of a running process, and what its rings hold.
 */
#include "shunt.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "interrupt.h"
#include "options.h"
#include "remote_common.h"
#include "remote_out.h"

#define STATS_USAGE                                                                  \
	"stats [--json] PID\n"                                                       \
	"The counters of Shunt in process PID, how it writes code there, and why.\n" \
	"\n"                                                                         \
	"  -j, --json  one object of JSON\n"                                         \
	"\n"                                                                         \
	"example:\n"                                                                 \
	"  shunt stats 1234"

#define SNAPSHOT_USAGE                                                              \
	"snapshot [-o FILE] PID\n"                                                  \
	"Save the last calls of process PID, where they are recorded: by its own\n" \
	"session in flight mode, or by shunt trace -p PID --flight.\n"              \
	"\n"                                                                        \
	"  -o, --output FILE  where to (default: shunt.trace)\n"                    \
	"\n"                                                                        \
	"example:\n"                                                                \
	"  shunt snapshot -o last.trace 1234 && shunt report last.trace"

enum { JSON_VERSION = 1 };

static int show_json(pid_t pid, char *at)
{
	json_t *root = json_pack("{s:i, s:i}", "version", JSON_VERSION, "pid", (int)pid);
	struct remote_line line = {0};
	int more = root ? 1 : -1;

	while (more > 0 && (more = remote_next_row("stats", &at, &line)) > 0)
		if (json_object_set_new(root, line.words[0], remote_json_value(line.words[1])))
			more = -1;
	remote_line_free(&line);
	if (more) {
		json_decref(root);
		root = NULL;
	}
	return remote_print_json("stats", root);
}

static int show_table(char *at)
{
	struct remote_line line = {0};
	int more;

	while ((more = remote_next_row("stats", &at, &line)) > 0) {
		remote_make_printable(&line);
		(void)printf("%-16s %s\n", line.words[0], *line.words[1] ? line.words[1] : "-");
	}
	remote_line_free(&line);
	return more ? EXIT_FAILURE : 0;
}

int cmd_stats(int argc, char **argv)
{
	static const char *const request[] = {"stats"};
	bool json = false;
	const struct tool_option options[] = {{"json", 'j', NULL, &json}, {0}};
	const char *text;
	char *reply;
	int status;
	pid_t pid;

	text = tool_parse_one(argc, argv, STATS_USAGE, options, "PID", &status);
	if (!text)
		return status;
	if (!remote_read_pid("stats", text, &pid))
		return EXIT_USAGE;
	if (remote_request_once("stats", pid, request, 1, -1, &reply))
		return EXIT_FAILURE;
	status = json ? show_json(pid, reply) : show_table(reply);
	free(reply);
	return status;
}

static int save(pid_t pid, const char *file)
{
	static const char *const request[] = {"snapshot"};
	struct remote_out out;

	if (remote_out_open(&out, "snapshot", file))
		return EXIT_FAILURE;
	if (remote_request_once("snapshot", pid, request, 1, out.fd, NULL) ||
	    remote_out_take_place(&out)) {
		remote_out_discard(&out);
		return EXIT_FAILURE;
	}
	return remote_out_finish(&out) ? EXIT_FAILURE : 0;
}

int cmd_snapshot(int argc, char **argv)
{
	const char *file = "shunt.trace", *text;
	const struct tool_option options[] = {{"output", 'o', tool_parse_text, &file}, {0}};
	int status;
	pid_t pid;

	text = tool_parse_one(argc, argv, SNAPSHOT_USAGE, options, "PID", &status);
	if (!text)
		return status;
	if (!remote_read_pid("snapshot", text, &pid))
		return EXIT_USAGE;
	/* A pipe whose reader has gone is said, not died of. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)interrupt_open(0, NULL);
	status = save(pid, file);
	interrupt_close();
	return status;
}
