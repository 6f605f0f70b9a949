/* SPDX-License-Identifier: MIT */
/* `shunt stats` and `shunt snapshot`: the counters of a running process, and what its rings hold.
 */
#include "shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"
#include "remote_common.h"

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
	"  -o, --output FILE  where to; shunt.trace\n"                              \
	"\n"                                                                        \
	"example:\n"                                                                \
	"  shunt snapshot -o last.trace 1234 && shunt report last.trace"

enum { JSON_VERSION = 1 };

static int show_json(pid_t pid, char *at)
{
	json_t *root = json_pack("{s:i, s:i}", "version", JSON_VERSION, "pid", (int)pid);
	char *words[2];
	size_t n;
	bool good = root;

	while (good && remote_next_row(&at, words, 2, &n))
		good = !json_object_set_new(root, words[0], remote_json_value(words[1]));
	if (!good) {
		json_decref(root);
		root = NULL;
	}
	return remote_print_json("stats", root);
}

static int show_table(char *at)
{
	char *words[2];
	size_t n;

	while (remote_next_row(&at, words, 2, &n))
		(void)printf("%-16s %s\n", words[0], *words[1] ? words[1] : "-");
	return 0;
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
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), err;
	struct stat st;

	if (fd < 0) {
		tool_complain("snapshot: %s: %s", file, strerror(errno));
		return EXIT_FAILURE;
	}
	err = remote_request_once("snapshot", pid, request, 1, fd, NULL);
	/* No session has been: no file. */
	if (err && !fstat(fd, &st) && S_ISREG(st.st_mode) && !st.st_size)
		(void)unlink(file);
	(void)close(fd);
	return err ? EXIT_FAILURE : 0;
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
	return remote_read_pid("snapshot", text, &pid) ? save(pid, file) : EXIT_USAGE;
}
