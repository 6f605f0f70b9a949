/* SPDX-License-Identifier: MIT */
/*
 * `shunt ps`: processes with an agent, or with libshunt and no agent; with --all those that could
 * be attached to. Those of other users are left out, as far as /proc does not show what they have.
 */
#include "shunt.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"
#include "remote.h"
#include "remote_common.h"
#include "trace_file.h"

#define USAGE                                                                    \
	"ps [--all] [--json]\n"                                                  \
	"List processes with Shunt in them: user, state, keys, who traces it.\n" \
	"\n"                                                                     \
	"  -a, --all   and those that shunt attach could put an agent into\n"    \
	"  -j, --json  one object of JSON\n"                                     \
	"\n"                                                                     \
	"States: agent (it can be asked), library (libshunt is there, and no\n"  \
	"agent), attachable.\n"                                                  \
	"\n"                                                                     \
	"examples:\n"                                                            \
	"  shunt ps\n"                                                           \
	"  shunt ps --json | jq '.processes[] | select(.state == \"agent\") | .pid'"

enum {
	JSON_VERSION = 1,
	USER_MAX = 33,
	COMMAND_MAX = 512,
	PATIENCE_MS = 2000, /* with one agent, in all */
	AT_ONCE = 32        /* agents that are asked */
};

struct process {
	pid_t pid;
	const char *state;
	bool has_agent;
	char user[USER_MAX], command[COMMAND_MAX], version[64], tracer[128];
	char why[700];     /* an agent does not answer */
	long keys, traced; /* -1: not known */
};

struct list {
	struct process *processes; /* of malloc() */
	size_t n, max;
	_Atomic size_t next; /* whose agent is to be asked */
};

/* -------------------------------------------------------------------------- /proc */

static bool read_user(struct process *p)
{
	const struct passwd *user;
	char path[32];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d", (int)p->pid);
	if (stat(path, &st))
		return false;
	user = getpwuid(st.st_uid);
	if (user)
		(void)snprintf(p->user, sizeof(p->user), "%s", user->pw_name);
	else
		(void)snprintf(p->user, sizeof(p->user), "%u", (unsigned)st.st_uid);
	return true;
}

/* false: a thread of the kernel, or it has ended. */
static bool read_command(struct process *p)
{
	char path[32];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)remote_thread(p->pid));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, p->command, sizeof(p->command) - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	for (ssize_t i = 0; i < n - 1; i++)
		if (!p->command[i])
			p->command[i] = ' ';
	p->command[n] = '\0';
	return true;
}

static bool maps_libshunt(pid_t pid)
{
	char path[32], *line = NULL;
	size_t room = 0;
	bool found = false;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)remote_thread(pid));
	file = fopen(path, "re");
	while (file && !found && getline(&line, &room, file) > 0) {
		const char *slash = strrchr(line, '/');

		found = slash && !strncmp(slash, "/libshunt", strlen("/libshunt")) &&
			strstr(slash, ".so");
	}
	free(line);
	if (file)
		(void)fclose(file);
	return found;
}

/* -------------------------------------------------------------------------- agent */

static void take_hello(struct process *p, const char *name, const char *value)
{
	if (!strcmp(name, "version"))
		(void)snprintf(p->version, sizeof(p->version), "%s", value);
	else if (!strcmp(name, "tracer"))
		(void)snprintf(p->tracer, sizeof(p->tracer), "%s", value);
}

static long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What it says, until @end at most, without a word on standard error: it may end at any time. */
static int ask(struct process *p, int fd, long long end, const char *what)
{
	struct remote_line line = {0};
	long long left = end - now_ms();
	char *reply, *at;
	int err = remote_ask_within(fd, left > 0 ? (unsigned)left : 0, what, &reply, p->why,
				    sizeof(p->why));

	if (err)
		return err;
	at = reply;
	p->keys = strcmp(what, "keys") ? p->keys : 0;
	while (remote_next_line(&at, &line) > 0) {
		if (!strcmp(what, "hello"))
			take_hello(p, line.words[0], line.words[1]);
		else if (!strcmp(what, "keys"))
			p->keys++;
		else if (!strcmp(line.words[0], "trace_functions"))
			p->traced = strtol(line.words[1], NULL, 10);
	}
	remote_line_free(&line);
	free(reply);
	return 0;
}

static void ask_agent(struct process *p)
{
	long long end = now_ms() + PATIENCE_MS;
	int fd;

	if (strchr("Tt", remote_state(p->pid))) {
		(void)snprintf(p->why, sizeof(p->why), "the process is stopped");
		return;
	}
	fd = remote_connect_within(p->pid, PATIENCE_MS, p->why, sizeof(p->why));
	if (fd < 0)
		return;
	if (!ask(p, fd, end, "hello") && !ask(p, fd, end, "keys") && *p->tracer)
		(void)ask(p, fd, end, "stats");
	(void)close(fd);
}

static void *ask_next(void *arg)
{
	struct list *list = arg;
	size_t i;

	while ((i = atomic_fetch_add(&list->next, 1)) < list->n)
		if (list->processes[i].has_agent)
			ask_agent(&list->processes[i]);
	return NULL;
}

/* Several at once: those that do not answer are not waited for one after the other. */
static void ask_agents(struct list *list)
{
	pthread_t threads[AT_ONCE - 1];
	size_t wanted = 0, n = 0;

	for (size_t i = 0; i < list->n; i++)
		wanted += list->processes[i].has_agent;
	while (n + 1 < wanted && n < AT_ONCE - 1 &&
	       !pthread_create(&threads[n], NULL, ask_next, list))
		n++;
	(void)ask_next(list);
	while (n)
		(void)pthread_join(threads[--n], NULL);
}

/* ------------------------------------------------------------------------ the list */

/* Whether it is to be shown, and then all of *@p but what its agent says. */
static bool look_at(struct process *p, bool all)
{
	char path[REMOTE_PATH], why[900];

	if (!read_user(p) || !read_command(p))
		return false;
	if (!remote_find(p->pid, path)) {
		p->state = "agent";
		p->has_agent = true;
		return true;
	}
	p->state = maps_libshunt(p->pid) ? "library"
		   : all && p->pid != getpid() && !inject_check(p->pid, false, why, sizeof(why))
			   ? "attachable"
			   : NULL;
	return p->state;
}

static json_t *json_count(long n)
{
	return n < 0 ? json_null() : json_integer(n);
}

static json_t *json_process(const struct process *p)
{
	return json_pack("{s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "pid", (int)p->pid,
			 "user", remote_json_string(p->user), "state", p->state, "command",
			 remote_json_string(p->command), "version", remote_json_text(p->version),
			 "keys", json_count(p->keys), "tracer", remote_json_text(p->tracer),
			 "traced_functions", json_count(p->traced), "why",
			 remote_json_text(p->why));
}

static void show(struct process *p)
{
	char keys[24] = "-";

	if (p->keys >= 0)
		(void)snprintf(keys, sizeof(keys), "%ld", p->keys);
	(void)trace_make_printable(p->user);
	(void)trace_make_printable(p->command);
	(void)printf("%8d %-10s %-10s %5s  %s", (int)p->pid, p->user, p->state, keys, p->command);
	if (*p->tracer)
		(void)printf("  [%ld function%s traced by process %s]", p->traced,
			     tool_plural((size_t)p->traced), p->tracer);
	if (*p->why)
		(void)printf("  [%s]", p->why);
	(void)putchar('\n');
}

static bool add(struct list *list, const struct process *p)
{
	if (list->n == list->max) {
		size_t max = list->max ? 2 * list->max : 64;
		struct process *more = reallocarray(list->processes, max, sizeof(*more));

		if (!more)
			return false;
		list->processes = more;
		list->max = max;
	}
	list->processes[list->n++] = *p;
	return true;
}

static bool walk(DIR *dir, bool all, struct list *list)
{
	const struct dirent *entry;

	while ((entry = readdir(dir))) {
		struct process p = {
			.pid = (pid_t)strtol(entry->d_name, NULL, 10), .keys = -1, .traced = -1};

		if (isdigit((unsigned char)entry->d_name[0]) && look_at(&p, all) && !add(list, &p))
			return false;
	}
	return true;
}

static void show_all(struct list *list)
{
	(void)printf("%8s %-10s %-10s %5s  %s\n", "PID", "USER", "STATE", "KEYS", "COMMAND");
	for (size_t i = 0; i < list->n; i++)
		show(&list->processes[i]);
}

static int print_json(const struct list *list)
{
	json_t *all = json_array(), *root = NULL;
	bool good = all;

	for (size_t i = 0; i < list->n && good; i++)
		good = !json_array_append_new(all, json_process(&list->processes[i]));
	if (good)
		root = json_pack("{s:i, s:O}", "version", JSON_VERSION, "processes", all);
	json_decref(all);
	return remote_print_json("ps", root);
}

static int ps(bool all, bool json)
{
	DIR *dir = opendir("/proc");
	struct list list = {0};
	int status = 0;

	if (!dir) {
		tool_complain("ps: /proc: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	if (!walk(dir, all, &list)) {
		tool_complain("ps: no memory");
		status = EXIT_FAILURE;
	}
	(void)closedir(dir);
	ask_agents(&list);
	if (json && !status)
		status = print_json(&list);
	else if (!json)
		show_all(&list);
	free(list.processes);
	return status;
}

int cmd_ps(int argc, char **argv)
{
	static const struct option options[] = {{"all", no_argument, NULL, 'a'},
						{"json", no_argument, NULL, 'j'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	bool all = false, json = false;
	int option;

	optind = 1;
	while ((option = getopt_long(argc, argv, "ajh", options, NULL)) != -1) {
		if (option == 'a') {
			all = true;
		} else if (option == 'j') {
			json = true;
		} else if (option == 'h') {
			(void)puts("usage: shunt " USAGE);
			return 0;
		} else {
			return tool_usage(USAGE);
		}
	}
	if (optind != argc) {
		tool_complain("ps: %s: it takes no arguments", argv[optind]);
		return tool_usage(USAGE);
	}
	return ps(all, json);
}
