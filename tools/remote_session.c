/* SPDX-License-Identifier: MIT */
/* The end of a session of `shunt trace -p`, and what is said of it. */
#include "remote_session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interrupt.h"
#include "proc_status.h"
#include "remote.h"
#include "remote_common.h"
#include "shunt.h"
#include "trace_file.h"
#include "trace_tally.h"
#include "trace_words.h"

enum {
	CLOSED_MS = 3000, /* for an agent to see that its descriptors are closed */
	CLOSED_TURN_MS = 50
};

/* ------------------------------------------------------------- its file */

bool session_has_events(const struct session *s)
{
	struct trace_tally t;

	trace_tally(s->out.fd, &t);
	return t.events || t.lost;
}

int session_place(struct session *s)
{
	if (!s->request->file || s->is_placed)
		return s->place_status;
	s->is_placed = true;
	s->place_status = s->request->is_flight ? remote_out_take_place(&s->out)
						: remote_out_take_place_of_aside(&s->out);
	return s->place_status;
}

int session_settle(struct session *s)
{
	const char *file = s->request->file;
	bool was_there = S_ISREG(s->out.earlier.st_mode);
	int status;

	if (!file || s->out.keeps_earlier)
		return 0;
	if (was_there && !session_has_events(s) &&
	    (s->out.aside || s->out.temporary || s->out.copy_to >= 0)) {
		remote_out_keep_earlier(&s->out);
		tool_say("nothing was recorded; %s is as it was", file);
		return 0;
	}
	status = session_place(s);
	remote_out_settle(&s->out);
	return status;
}

/* What is said to have the recording at the end; NULL: nothing. */
static const char *file_at_end(struct session *s, int *status)
{
	const char *file = s->request->file;

	*status = session_settle(s);
	if (*status || !file || s->out.keeps_earlier)
		return NULL;
	if (remote_out_is_there(&s->out))
		return file;
	tool_complain("trace: process %d: %s: others have removed or replaced it: what was "
		      "recorded is not there",
		      (int)s->request->pid, file);
	*status = -1;
	return NULL;
}

/* ------------------------------------------------------------- as the agent says it */

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

/* ------------------------------------------------------------- as the file says it */

/* Without an end the last calls are not counted. */
static int say_totals(struct session *s, const struct trace_tally *t)
{
	int status;
	const char *file = file_at_end(s, &status);
	char no_return[64] = "";

	if (t->ended)
		(void)snprintf(no_return, sizeof(no_return), ", %" PRIu64 " without a return",
			       t->no_return);
	tool_say("%s%" PRIu64 " event%s, %" PRIu64 " lost%s, %" PRIu64 " thread%s%s%s",
		 !t->ended && !t->at_exec ? "written until then: "
		 : s->request->is_flight  ? "the last "
					  : "",
		 t->events, tool_plural(t->events), t->lost, no_return, t->threads,
		 tool_plural(t->threads), file ? " -> " : "", file ? file : "");
	return status;
}

/* A table takes away what it has shown, and has counted it. */
static struct trace_tally count(struct session *s)
{
	const struct trace_file *f = &s->live.f;
	struct trace_tally tally;

	if (s->request->file) {
		trace_tally(s->out.fd, &tally);
		return tally;
	}
	(void)live_read(&s->live);
	return (struct trace_tally){
		.events = f->ended ? f->end.events : f->events,
		.lost = f->ended ? f->end.lost : f->lost,
		.no_return = f->end.no_return,
		.threads = f->threads.n,
		.ended = f->ended,
		.at_exec = f->at_exec,
		.failure = f->has_failed ? (int)f->failure.error : 0,
	};
}

/* Why the recorder has written no more, if the file says so. */
static bool say_failure(const struct session *s, const struct trace_tally *t)
{
	const char *file = s->request->file ? s->request->file : "what the table is made of";
	int pid = (int)s->request->pid;

	if (!t->failure)
		return false;
	if (s->request->is_flight)
		tool_complain("trace: process %d: what it kept is lost: %s: %s; %s is as it was",
			      pid, file, strerror(t->failure), file);
	else
		tool_complain("trace: process %d: the file of its session: %s: %s; it is not "
			      "recorded any further",
			      pid, file, strerror(t->failure));
	return true;
}

/* What the file of an ended process has. What a table shows needs no last calls. */
static int judge(struct session *s)
{
	const char *file = s->request->file;
	struct trace_tally t = count(s);
	int status = 0;

	if (!(s->request->is_flight && t.failure))
		status = say_totals(s, &t);
	if (say_failure(s, &t))
		return -1;
	if (status || t.ended || t.at_exec || !file)
		return status;
	tool_complain(
		"trace: process %d: its last calls (up to 10 ms) may not be in %s, nor counted",
		(int)s->request->pid, file);
	return -1;
}

/* ------------------------------------------------------------- by this command */

/* Of the flight recorder, of which rings keep the last events, and of some ended threads nothing.
 */
static void print_kept(const struct session *s)
{
	struct trace_tally t;

	trace_tally(s->out.fd, &t);
	tool_say("the last of these, %" PRIu64 " event%s of %" PRIu64 " thread%s -> %s", t.events,
		 tool_plural(t.events), t.threads, tool_plural(t.threads), s->request->file);
}

/* The recorder had ended it before, or does so now: the file says why. */
static void say_refused(struct session *s, const char *why)
{
	struct trace_tally t = {.failure = 0};

	if (!s->request->is_flight)
		t = count(s);
	if (t.failure || !s->request->is_flight)
		(void)say_totals(s, &t);
	if (say_failure(s, &t))
		return;
	tool_complain("trace: process %d: %s", (int)s->request->pid, why);
	if (s->request->is_flight)
		tool_complain("trace: process %d: what it kept is lost", (int)s->request->pid);
}

/* ------------------------------------------------------------- by itself */

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
	else if (remote_agent_thread(s->request->pid))
		tool_say("the agent of process %d has disconnected", pid);
	else
		tool_say("the agent of process %d has ended", pid);
}

/*
 * The agent is there, and has disconnected, which it does by itself of nobody who has a session:
 * the program has closed its descriptors. It sees that, and ends the session.
 */
static int take_until_closed(struct session *s)
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
	if (trace_words_has_end(s->out.fd)) {
		(void)judge(s);
		tool_complain("trace: process %d has closed the agent's connection, and is "
			      "recorded until then",
			      pid);
	} else {
		tool_complain("trace: process %d has closed the agent's connection, and the "
			      "recorder's file: what it called from then on is not in %s",
			      pid, file ? file : "the table");
	}
	return -1;
}

bool session_has_closed(const struct session *s)
{
	pid_t pid = s->request->pid;
	char byte, why[700];
	int fd = -1;

	if (s->memory < 0 || !pread(s->memory, &byte, 1, 0))
		return false;
	/* It has to see that its socket is closed, too, and to open another one. */
	for (int ms = 0; ms < CLOSED_MS && fd < 0; ms += CLOSED_TURN_MS) {
		if (remote_is_ending(pid) || !remote_agent_thread(pid) ||
		    interrupt_wait(-1, 0, 1) == -EINTR)
			return false;
		fd = remote_connect_within(pid, CLOSED_TURN_MS, why, sizeof(why));
	}
	return fd >= 0 && !close(fd);
}

/* What an agent that is ended says before it disconnects: why what was kept could not be saved. */
static bool say_last_words(const struct session *s)
{
	char text[700];
	ssize_t n = recv(s->agent, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, "lost ", 5) != 0)
		return false;
	tool_complain("trace: process %d: what it kept is lost: %s", (int)s->request->pid,
		      trace_make_printable(text + 5));
	return true;
}

int session_take(struct session *s)
{
	int pid = (int)s->request->pid;
	struct trace_tally t;
	bool is_ending;

	if (session_has_closed(s))
		return take_until_closed(s);
	is_ending = remote_is_ending(s->request->pid);
	say_end(s, is_ending);
	if (!s->request->is_flight)
		return judge(s);
	trace_tally(s->out.fd, &t);
	if (t.ended || t.failure) /* or it was killed in the middle of it */
		return judge(s);
	if (!say_last_words(s))
		tool_complain("trace: what process %d kept is lost: %s has ended without saving it",
			      pid, is_ending ? "it" : "its agent");
	return -1;
}

/* It answers when it goes on. */
static void say_stopped(pid_t pid)
{
	struct proc_status status;

	if (!proc_status_read(remote_thread(pid), &status) && strchr("Tt", status.state))
		tool_say("process %d is stopped: its session is ended when it goes on, within a "
			 "minute; a signal (Ctrl-C) ends the wait",
			 (int)pid);
}

int session_stop(struct session *s)
{
	static const char *const save[] = {"snapshot"}, *const end[] = {"stop"};
	pid_t pid = s->request->pid;
	char *reply, why[700];
	const char *file;
	size_t size;
	int err = 0, ended, status = 0;

	say_stopped(pid);
	if (s->request->is_flight)
		err = remote_request("trace", pid, s->agent, save, 1, s->out.fd, NULL);
	if (err == -ECONNRESET || err == -EPIPE)
		return -1; /* once said */
	ended = remote_ask(s->agent, end, 1, -1, &reply, &size, why, sizeof(why));
	if (ended == -ECONNRESET || ended == -EPIPE) /* or that has ended just then */
		return session_take(s);
	if (ended) {
		say_refused(s, why);
		return -1;
	}
	if (!s->request->is_flight) {
		file = file_at_end(s, &status);
		print_totals(reply, file);
		free(reply);
		return status;
	}
	print_totals(reply, NULL);
	free(reply);
	file = err ? NULL : file_at_end(s, &status);
	if (file)
		print_kept(s);
	if (remote_has_children(pid))
		tool_say("process %d has children: with -p --flight does not record them",
			 (int)pid);
	return err ? -1 : status;
}
