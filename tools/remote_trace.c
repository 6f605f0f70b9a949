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
#include "interrupt.h"
#include "remote.h"
#include "remote_common.h"
#include "remote_out.h"
#include "shunt.h"
#include "trace_file.h"
#include "trace_place.h"
#include "trace_top.h"
#include "trace_words.h"

enum {
	OPTIONS = 8,
	DETACH_MS = 10000,
	CLOSED_MS = 3000, /* for an agent to see that its descriptors are closed */
	CLOSED_TURN_MS = 50
};

struct session {
	const struct remote_trace *request;
	int agent, signals;
	int memory; /* of the process, as it was; -1: it may not be read */
	struct remote_out out;
	struct top top;
	struct live live; /* what the table shows */
	bool is_attached; /* by this command */
	bool is_recorded; /* the file has what was recorded, whatever happens at the end */
	bool has_ended;   /* the process, or its agent, before this command has ended the session */
	bool is_told; /* by a signal or a key to end: a reader that does not read is not waited for
		       */
};

/* ------------------------------------------------------------------------- the agent */

static int connect_or_attach(struct session *s)
{
	static const char *const temporary[] = {"temporary"};
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
		/* It goes with this command, however that ends. */
		if (s->agent >= 0 && s->is_attached)
			(void)remote_ask(s->agent, temporary, 1, -1, NULL, NULL, why, sizeof(why));
	}
	if (s->agent < 0)
		tool_complain("trace: %s", why);
	return s->agent < 0 ? -1 : 0;
}

static int detach(const struct session *s)
{
	static const char *const words[] = {"detach"};
	pid_t pid = s->request->pid, agent;

	if (!s->is_attached || s->has_ended || remote_is_ending(pid) ||
	    interrupt_wait(-1, 0, 0) == -EINTR)
		return 0;
	agent = remote_agent_thread(pid);
	if (remote_request("trace", pid, s->agent, words, 1, -1, NULL))
		return -1;
	/* Who comes next does not meet one that is about to end. */
	if (remote_wait_for_end(pid, agent, DETACH_MS))
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
	live_close(&s->live);
	return 0;
}

/* In words: "events" 1 -> "1 event", "no_return" 2 -> "2 without a return". */
static int put_total(char *to, size_t size, const char *name, const char *value)
{
	static const struct {
		const char *name, *one, *many;
	} words[] = {
		{"events", "event", "events"},
		{"no_return", "without a return", "without a return"},
		{"threads", "thread", "threads"},
		{"functions", "function", "functions"},
		{"switched_off", "switched off", "switched off"},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(name, words[i].name))
			name = strcmp(value, "1") ? words[i].many : words[i].one;
	return snprintf(to, size, "%s %s", value, name);
}

static void print_totals(char *at, const char *file)
{
	struct remote_line line = {0};
	char text[1000] = "";
	size_t n = 0;

	while (n < sizeof(text) && remote_next_row("trace", &at, &line) > 0) {
		remote_make_printable(&line);
		if (n)
			n += (size_t)snprintf(text + n, sizeof(text) - n, ", ");
		if (n < sizeof(text))
			n += (size_t)put_total(text + n, sizeof(text) - n, line.words[0],
					       line.words[1]);
	}
	tool_say("%s%s%s", text, file ? " -> " : "", file ? file : "");
	remote_line_free(&line);
}

/* Of the flight recorder, of which rings keep the last events, and of some ended threads nothing.
 */
static void print_kept(const struct session *s)
{
	unsigned long long events = 0;
	struct trace_file f;
	int fd = fcntl(s->out.fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return;
	trace_open_growing(&f, s->request->file, fd);
	if (!trace_read_growing(&f)) {
		for (size_t i = 0; i < f.threads.n; i++) {
			const struct file_thread *thread = trace_thread_at(&f, i);

			for (size_t j = 0; j < thread->pieces.n; j++)
				events += ((const struct file_piece *)thread->pieces.data)[j].count;
		}
		tool_say("the last of these, %llu event%s of %zu thread%s -> %s", events,
			 tool_plural(events), f.threads.n, tool_plural(f.threads.n),
			 s->request->file);
	}
	trace_close(&f);
}

static int stop(const struct session *s)
{
	static const char *const save[] = {"snapshot"}, *const end[] = {"stop"};
	pid_t pid = s->request->pid;
	char *reply;
	int err = 0;

	if (s->request->is_flight)
		err = remote_request("trace", pid, s->agent, save, 1, s->out.fd, NULL);
	if (err == -ECONNRESET || err == -EPIPE)
		return -1; /* once said */
	if (remote_request("trace", pid, s->agent, end, 1, -1, &reply))
		return -1;
	print_totals(reply, s->request->is_flight ? NULL : s->request->file);
	free(reply);
	if (s->request->is_flight) {
		if (!err)
			print_kept(s);
		if (remote_has_children(pid))
			tool_say("process %d has children: with -p --flight does not record them",
				 (int)pid);
	}
	return err ? -1 : 0;
}

/* What a table shows needs no last calls. */
static int check_last(const struct session *s)
{
	if (!s->request->file || trace_words_has_end(s->out.fd))
		return 0;
	tool_complain("trace: process %d: its last calls (up to 10 ms) are not in %s",
		      (int)s->request->pid, s->request->file);
	return -1;
}

/* As far as it could be seen. */
static void say_end(const struct session *s, bool is_ending)
{
	int pid = (int)s->request->pid;
	char byte;

	if (is_ending)
		tool_say("process %d has ended", pid);
	/* Linux: of memory that is no process's any more nothing is read. */
	else if (s->memory >= 0 && !pread(s->memory, &byte, 1, 0))
		tool_say("process %d has executed another program", pid);
	else
		tool_say("the agent of process %d has been ended", pid);
}

/*
 * The agent is there, and has disconnected, which it does by itself of nobody who has a session:
 * the program has closed its descriptors. It sees that, and ends the session.
 */
static int take_until_closed(const struct session *s)
{
	const char *file = s->request->file;
	int pid = (int)s->request->pid;

	if (s->request->is_flight) {
		tool_complain("trace: process %d has closed the agent's connection: what it kept "
			      "is lost",
			      pid);
		return -1;
	}
	for (int ms = 0; ms < CLOSED_MS && !trace_words_has_end(s->out.fd); ms += CLOSED_TURN_MS)
		if (interrupt_wait(-1, 0, CLOSED_TURN_MS) == -EINTR)
			break;
	if (trace_words_has_end(s->out.fd))
		tool_complain("trace: process %d has closed the agent's connection, and is "
			      "recorded until then",
			      pid);
	else
		tool_complain("trace: process %d has closed the agent's connection, and the "
			      "recorder's file: what it called from then on is not in %s",
			      pid, file ? file : "the table");
	return -1;
}

/* The process lives, the image that was traced, and its agent, which answers. */
static bool has_closed(const struct session *s)
{
	pid_t pid = s->request->pid;
	char byte, why[700];
	int fd = -1;

	if (s->memory < 0 || !pread(s->memory, &byte, 1, 0))
		return false;
	/* It has to see that its socket is closed, too, and to open another one. */
	for (int ms = 0; ms < CLOSED_MS && fd < 0; ms += CLOSED_TURN_MS) {
		if (remote_is_ending(pid) || !remote_agent_thread(pid) ||
		    interrupt_wait(-1, 0, CLOSED_TURN_MS) == -EINTR)
			return false;
		fd = remote_connect_within(pid, CLOSED_TURN_MS, why, sizeof(why));
	}
	return fd >= 0 && !close(fd);
}

/* The process has ended, or its agent; what the recorder could, it has written. */
static int take_what_is_there(const struct session *s)
{
	int pid = (int)s->request->pid;
	bool is_ending;

	if (has_closed(s))
		return take_until_closed(s);
	is_ending = remote_is_ending(s->request->pid);
	say_end(s, is_ending);
	if (!s->request->is_flight)
		return check_last(s);
	if (trace_words_has_end(s->out.fd)) /* or it was killed in the middle of it */
		return 0;
	tool_complain("trace: what process %d kept is lost: %s has ended without saving it", pid,
		      is_ending ? "it" : "its agent");
	return -1;
}

static int record(struct session *s)
{
	if (start(s) || remote_check_traceable(s->request->pid, s->agent))
		return -1;
	/* What the flight recorder keeps is written at the end. */
	s->is_recorded = !s->request->is_flight;
	if (s->is_recorded && remote_out_take_place(&s->out))
		return -1;
	if (!s->request->has_top)
		wait_for_end(s);
	else if (wait_with_top(s))
		return -1;
	if (s->has_ended ? take_what_is_there(s) : stop(s))
		return -1;
	if (s->top.error)
		tool_complain("trace: process %d: the table: standard output: %s",
			      (int)s->request->pid, strerror(s->top.error));
	return remote_out_take_place(&s->out) || s->top.error ? -1 : 0;
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
	if (!status) {
		status = record(s);
		place.file = s->out.final;
		trace_place_sweep(&place);
		if (status && !s->is_recorded)
			remote_out_discard(&s->out);
		else
			status |= remote_out_finish(&s->out);
	}
	status |= detach(s);
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
			    .memory = open_memory(request->pid)};
	int status = trace_process(&s);

	if (s.memory >= 0)
		(void)close(s.memory);
	(void)close(s.signals);
	interrupt_close();
	return status ? EXIT_FAILURE : 0;
}
