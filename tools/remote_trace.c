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
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"
#include "interrupt.h"
#include "remote.h"
#include "remote_common.h"
#include "remote_session.h"
#include "shunt.h"
#include "trace_place.h"

enum {
	OPTIONS = 8,
	DETACH_MS = 10000,
	SETTLE_MS = 100 /* between two looks whether something has been called */
};

/* ------------------------------------------------------------------------- the agent */

static int connect_or_attach(struct session *s)
{
	/* It goes with this command, however that ends. */
	const struct inject_options options = {.is_temporary = true};
	struct inject_result result;
	pid_t pid = s->request->pid;
	char why[700];

	s->agent = remote_connect(pid, why, sizeof(why));
	if (s->agent == -ENOENT) {
		if (inject_agent(pid, &options, &result)) {
			tool_complain("trace: %s", result.why);
			return -1;
		}
		s->agent = remote_connect(pid, why, sizeof(why));
	}
	if (s->agent < 0)
		tool_complain("trace: %s", why);
	return s->agent < 0 ? -1 : 0;
}

/* What the agent answers: it stays, for somebody has asked for it, or asks it something. */
static bool has_stayed(char *reply)
{
	struct remote_line line = {0};
	bool stays = false;

	while (remote_next_line(&reply, &line) > 0)
		stays = stays || (!strcmp(line.words[0], "stays") && strcmp(line.words[1], "0"));
	remote_line_free(&line);
	return stays;
}

static int leave(const struct session *s)
{
	static const char *const words[] = {"leave"};
	pid_t pid = s->request->pid, agent;
	char *reply = NULL, why[700];
	bool stays;
	size_t size;

	if (s->has_ended || remote_is_ending(pid) || interrupt_wait(-1, 0, 0) == -EINTR)
		return 0;
	agent = remote_agent_thread(pid);
	/* Where it does not answer it sees that this command has gone. */
	if (remote_ask(s->agent, words, 1, -1, &reply, &size, why, sizeof(why)))
		return 0;
	stays = has_stayed(reply);
	free(reply);
	/* Who comes next does not meet one that is about to end. */
	if (stays || remote_wait_for_end(pid, agent, DETACH_MS))
		return 0;
	tool_complain("trace: process %d: the agent (thread %d) has not ended in %d s", (int)pid,
		      (int)agent, DETACH_MS / 1000);
	return -1;
}

/* Whether the process sees the folder of the file under the same name, so that its children can
 * have their own there. */
static bool sees_folder(const struct session *s)
{
	char path[PATH_MAX], *slash;
	struct stat ours, theirs;
	int root =
		snprintf(path, sizeof(path), "/proc/%d/root", (int)remote_thread(s->request->pid));

	if (!s->out.temporary || snprintf(path + root, sizeof(path) - (size_t)root, "%s",
					  s->request->file) >= (int)sizeof(path) - root)
		return false;
	slash = strrchr(path + root, '/');
	slash[1] = '\0';
	return !stat(path + root, &ours) && !stat(path, &theirs) && ours.st_dev == theirs.st_dev &&
	       ours.st_ino == theirs.st_ino;
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
	add(words, &n, "path", !r->is_flight && sees_folder(s) ? r->file : NULL);
	add(words, &n, "mode", r->is_flight ? "flight" : NULL);
	add(words, &n, "entries", r->entries ? "1" : NULL);
	add_number(words, &n, "min", r->min_ns);
	add_number(words, &n, "ring", r->ring);
	add_number(words, &n, "auto_off", r->keep_all ? ULLONG_MAX : 0);
	err = remote_request("trace", r->pid, s->agent, (const char *const *)words, n, s->out.fd,
			     NULL);
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

/* Whether it ends the session. */
static bool take_signal(struct session *s)
{
	struct signalfd_siginfo info = {0};
	bool is_end = false;

	while (!is_end && read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGTSTP)
			top_suspend(&s->top);
		is_end = info.ssi_signo != SIGTSTP && info.ssi_signo != SIGWINCH;
	}
	if (!is_end && s->request->has_top)
		(void)top_draw(&s->top, &s->live, 1, true);
	return is_end;
}

/* What has come, and the table. False: it cannot be shown. */
static bool show(struct session *s, bool now)
{
	return !s->request->has_top ||
	       (!live_read(&s->live) && !top_draw(&s->top, &s->live, 1, now));
}

/* ms, at most, until something is to be done. */
static int turn(const struct session *s, long long end)
{
	long long left = s->request->for_ns ? end - now_ms() : INT_MAX;

	if (left < 0)
		return 0;
	if (s->request->has_top && left > TOP_READ_MS)
		return TOP_READ_MS;
	if (s->out.aside && left > SETTLE_MS)
		return SETTLE_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}

static void wait_for_end(struct session *s)
{
	/* Keys first: see top_is_ended_by_key() */
	struct pollfd fds[] = {{.fd = s->request->has_top ? s->top.keys : -1, .events = POLLIN},
			       {.fd = s->signals, .events = POLLIN},
			       {.fd = s->agent, .events = POLLIN | POLLRDHUP}};
	long long end = now_ms() + (long long)((s->request->for_ns + 999999) / 1000000);

	for (;;) {
		int left = turn(s, end);

		if (!left)
			return;
		if (poll(fds, 3, left) < 0)
			continue;
		if (s->out.aside && session_has_events(s))
			remote_out_settle(&s->out);
		s->has_ended = fds[2].revents;
		s->is_told = fds[1].revents && take_signal(s);
		if (s->is_told || s->has_ended || !show(s, false))
			return;
		s->is_told = fds[0].revents && !fds[1].revents && top_is_ended_by_key(&s->top);
		if (s->is_told)
			return;
	}
}

static int wait_with_top(struct session *s)
{
	char title[64];
	int fd = fcntl(s->out.fd, F_DUPFD_CLOEXEC, 3);

	(void)snprintf(title, sizeof(title), "process %d", (int)s->request->pid);
	if (fd < 0 || top_open(&s->top, STDOUT_FILENO, title))
		return -1;
	live_open(&s->live, "what is recorded", fd, s->request->file);
	wait_for_end(s);
	if (!s->is_told)
		top_wait(&s->top);
	(void)show(s, true);
	if (!s->is_told)
		top_wait(&s->top);
	top_close(&s->top);
	return 0;
}

/* Why the agent has not answered, where that is seen. */
static void say_closed(const struct session *s)
{
	char byte;

	if (recv(s->agent, &byte, 1, MSG_PEEK | MSG_DONTWAIT))
		return;
	if (s->memory >= 0 && !remote_is_ending(s->request->pid) && !pread(s->memory, &byte, 1, 0))
		tool_complain("trace: process %d has executed another program",
			      (int)s->request->pid);
	else if (session_has_closed(s))
		tool_complain("trace: process %d has closed the agent's connection",
			      (int)s->request->pid);
}

static int record(struct session *s)
{
	if (start(s) || remote_check_traceable(s->request->pid, s->agent)) {
		say_closed(s);
		return -1;
	}
	/* What the flight recorder keeps is written at the end. */
	s->is_recorded = !s->request->is_flight;
	if (s->is_recorded && session_place(s))
		return -1;
	if (!s->request->has_top)
		wait_for_end(s);
	else if (wait_with_top(s))
		return -1;
	if (s->has_ended ? session_take(s) : session_stop(s))
		return -1;
	if (s->top.error)
		tool_complain("trace: process %d: the table: standard output: %s",
			      (int)s->request->pid, strerror(s->top.error));
	return s->top.error ? -1 : 0;
}

static int open_signals(bool has_top)
{
	sigset_t set;

	/* A pipe whose reader has gone is said, not died of. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)interrupt_open(has_top ? SIGQUIT : 0, &set);
	if (has_top) {
		(void)sigaddset(&set, SIGTSTP);
		(void)sigaddset(&set, SIGWINCH);
	}
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int trace_process(struct session *s)
{
	const struct remote_trace *request = s->request;
	struct trace_place place = {.file = NULL}; /* of the process's children, beside its own */
	int status;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &place.since);
	if (connect_or_attach(s))
		return -1;
	status = request->file ? remote_out_open(&s->out, "trace", request->file)
			       : remote_out_open_unnamed(&s->out, "trace");
	if (!status && s->out.temporary && trace_place_is_written(s->out.final)) {
		tool_complain("trace: %s: somebody is writing to it", request->file);
		remote_out_discard(&s->out);
		status = -1;
	}
	s->out.is_guarded = true;
	if (!status) {
		status = record(s);
		if (s->is_recorded)
			status |= session_settle(s);
		place.file = s->out.final;
		trace_place_sweep(&place, NULL);
		if (status && !s->is_recorded)
			remote_out_discard(&s->out);
		else
			status |= remote_out_finish(&s->out);
	}
	live_close(&s->live);
	status |= leave(s);
	(void)close(s->agent);
	return status;
}

static int open_memory(pid_t pid)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)remote_thread(pid));
	return open(path, O_RDONLY | O_CLOEXEC);
}

int remote_trace(const struct remote_trace *request)
{
	struct session s = {.request = request,
			    .signals = open_signals(request->has_top),
			    .memory = open_memory(request->pid),
			    .live.f.fd = -1};
	int status = trace_process(&s);

	if (s.memory >= 0)
		(void)close(s.memory);
	(void)close(s.signals);
	interrupt_close();
	return status ? EXIT_FAILURE : 0;
}
