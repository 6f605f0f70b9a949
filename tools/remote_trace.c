/* SPDX-License-Identifier: MIT */
#include "remote_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"
#include "remote.h"
#include "remote_common.h"
#include "shunt.h"

enum { OPTIONS = 8 };

struct session {
	const struct remote_trace *request;
	int agent, file, signals;
	bool is_attached; /* by this command */
};

/* ------------------------------------------------------------------------- the agent */

static int connect_or_attach(struct session *s)
{
	struct inject_options options = {0};
	struct inject_result result;
	pid_t pid = s->request->pid;
	char why[700];

	s->agent = remote_connect(pid, why, sizeof(why));
	if (s->agent == -ENOENT) {
		if (inject_agent(pid, &options, &result)) {
			tool_complain("trace: %s", result.why);
			return -1;
		}
		s->is_attached = !result.was_there;
		s->agent = remote_connect(pid, why, sizeof(why));
	}
	if (s->agent < 0)
		tool_complain("trace: %s", why);
	return s->agent < 0 ? -1 : 0;
}

static void detach(const struct session *s)
{
	static const char *const words[] = {"detach"};

	if (s->is_attached)
		(void)remote_request("trace", s->request->pid, s->agent, words, 1, -1, NULL);
}

/* Whether the process sees the file under the same name, so that its children can have their own.
 */
static bool sees_file(const struct session *s)
{
	char path[PATH_MAX];
	struct stat ours, theirs;

	if (snprintf(path, sizeof(path), "/proc/%d/root%s", (int)s->request->pid,
		     s->request->file) >= (int)sizeof(path))
		return false;
	return !fstat(s->file, &ours) && S_ISREG(ours.st_mode) && !stat(path, &theirs) &&
	       ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static void add(char **words, size_t *n, const char *name, const char *value)
{
	if (value && asprintf(&words[*n], "%s=%s", name, value) >= 0)
		++*n;
}

static void add_number(char **words, size_t *n, const char *name, unsigned long long value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%llu", value);
	if (value)
		add(words, n, name, text);
}

static int start(struct session *s)
{
	const struct remote_trace *r = s->request;
	char *words[OPTIONS + 1] = {"trace"};
	size_t n = 1;
	int err;

	add(words, &n, "filter", r->filter);
	add(words, &n, "notrace", r->notrace);
	add(words, &n, "path", !r->is_flight && sees_file(s) ? r->file : NULL);
	add(words, &n, "mode", r->is_flight ? "flight" : NULL);
	add(words, &n, "entries", r->entries ? "1" : NULL);
	add_number(words, &n, "min", r->min_ns);
	add_number(words, &n, "ring", r->ring);
	add_number(words, &n, "auto_off", r->keep_all ? ULLONG_MAX : 0);
	err = remote_request("trace", r->pid, s->agent, (const char *const *)words, n,
			     r->is_flight ? -1 : s->file, NULL);
	while (n > 1)
		free(words[--n]);
	return err ? -1 : 0;
}

/* ---------------------------------------------------------------------------- its end */

static long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* true: the process goes on. */
static bool wait_for_end(const struct session *s)
{
	struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN},
			       {.fd = s->agent, .events = POLLIN | POLLRDHUP}};
	long long end = now_ms() + (long long)((s->request->for_ns + 999999) / 1000000);

	for (;;) {
		long long left = s->request->for_ns ? end - now_ms() : INT_MAX;

		if (left <= 0)
			return true;
		(void)poll(fds, 2, left > INT_MAX ? INT_MAX : (int)left);
		if (fds[1].revents)
			return false;
		if (fds[0].revents)
			return true;
	}
}

static void print_totals(char *at)
{
	const char *separator = "";
	char *words[2];
	size_t n;

	while (remote_next_row(&at, words, 2, &n)) {
		(void)fprintf(stderr, "%s%s %s", separator, words[1], words[0]);
		separator = ", ";
	}
	(void)fputc('\n', stderr);
}

static int stop(const struct session *s)
{
	static const char *const save[] = {"snapshot"}, *const end[] = {"stop"};
	pid_t pid = s->request->pid;
	char *reply;
	int err = 0;

	if (s->request->is_flight)
		err = remote_request("trace", pid, s->agent, save, 1, s->file, NULL);
	if (remote_request("trace", pid, s->agent, end, 1, -1, &reply))
		return EXIT_FAILURE;
	print_totals(reply);
	free(reply);
	return err ? EXIT_FAILURE : 0;
}

static int record(struct session *s)
{
	if (start(s))
		return EXIT_FAILURE;
	if (wait_for_end(s))
		return stop(s);
	s->is_attached = false;
	if (s->request->is_flight) {
		tool_complain("trace: process %d has ended, and with it what it kept",
			      (int)s->request->pid);
		return EXIT_FAILURE;
	}
	(void)fprintf(stderr, "process %d has ended\n", (int)s->request->pid);
	return 0;
}

static int open_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_file(const struct remote_trace *r)
{
	int fd = open(r->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		tool_complain("trace: %s: %s", r->file, strerror(errno));
	return fd;
}

int remote_trace(const struct remote_trace *request)
{
	struct session s = {.request = request, .signals = open_signals()};
	struct stat st;
	int status;

	if (connect_or_attach(&s))
		return EXIT_FAILURE;
	s.file = open_file(request);
	status = s.file < 0 ? EXIT_FAILURE : record(&s);
	/* Nothing was recorded: no file. */
	if (s.file >= 0 && status && !fstat(s.file, &st) && S_ISREG(st.st_mode) && !st.st_size)
		(void)unlink(request->file);
	detach(&s);
	if (s.file >= 0)
		(void)close(s.file);
	(void)close(s.agent);
	(void)close(s.signals);
	return status;
}
