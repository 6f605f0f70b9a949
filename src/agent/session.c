/* SPDX-License-Identifier: MIT */
/*
 * Sessions of tracing for clients. The recorder has one at a time, so one client at a time, and the
 * others are told whose it is. One that goes away takes its session with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/trace.h>

#include "agent/agent.h"

static struct agent_client *owner;
static struct agent_client parents; /* in a child: of the parent's session */
static char what[256];              /* its filters, cut */
static bool is_left;                /* a session whose stop was refused, which runs on */
static struct agent_descriptor watch = {.fd = -1}, far_end = {.fd = -1};
/* Where what a flight recorder keeps goes if the agent ends its session. */
static struct agent_descriptor kept = {.fd = -1};

const char *agent_session_owner(void)
{
	static char text[64];

	if (!owner)
		return NULL;
	(void)snprintf(text, sizeof(text), "%d (user %u)", (int)owner->pid, (unsigned)owner->uid);
	return text;
}

const char *agent_session_what(void)
{
	return owner ? what : NULL;
}

static void note_what(const struct shunt_trace_options *options)
{
	(void)snprintf(what, sizeof(what), "%s%s%s", options->filter ? options->filter : "*",
		       options->notrace ? " but not " : "",
		       options->notrace ? options->notrace : "");
}

/*
 * Only a regular file takes all that is written to it at once. A pipe that its reader does not
 * empty would hold the recorder, with its lock, and then fork() of the program.
 */
static bool is_writable_file(const struct agent_client *client, struct agent_reply *reply)
{
	int fd = client->passed.fd;
	int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	struct stat st;

	if (fd < 0 && client->has_lost_passed)
		agent_reply_fail(reply, EMFILE, "the process has no descriptor left for the file");
	else if (flags < 0 || fstat(fd, &st))
		agent_reply_fail(reply, EINVAL, "no descriptor to write to");
#ifndef AGENT_TAKES_ANY_FILE /* tests/agent: a control */
	else if (!S_ISREG(st.st_mode))
		agent_reply_fail(reply, EINVAL, "the descriptor is not that of a regular file");
#endif
	else if (flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY)
		agent_reply_fail(reply, EBADF, "the descriptor is not open for writing");
	return !reply->error;
}

/* ---------------------------------------------------------------------- children */

/* Both ends of the pipe; without them a session in children has no end before theirs. */
static void open_watch(void)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return;
	(void)agent_keep(&watch, ends[0]);
	(void)agent_keep(&far_end, ends[1]);
}

/* A byte besides: a copy of the process that is no child of fork() has the end open, too. */
static void close_watch(void)
{
	if (agent_is_ours(&far_end))
		(void)!write(far_end.fd, "", 1);
	agent_close(&far_end);
	agent_close(&watch);
}

bool agent_session_is_parents(void)
{
	return owner == &parents;
}

int agent_session_watch(void)
{
	return owner == &parents ? watch.fd : -1;
}

bool agent_session_is_over(void)
{
	struct pollfd polled = {.fd = watch.fd, .events = POLLIN};

	return owner == &parents && (!agent_is_ours(&watch) || poll(&polled, 1, 0) > 0);
}

void agent_session_in_child(void)
{
	agent_renew_fork_lock();
	agent_close(&far_end);
	agent_close(&kept);
	if (owner) {
		parents = (struct agent_client){.pid = owner->pid, .uid = owner->uid};
		owner = &parents;
	}
}

/* ----------------------------------------------------------------------- options */

static bool read_number(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && !errno && !*end;
}

/* "NAME=VALUE" -> VALUE, where it is that option. */
static const char *value_of(const char *option, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(option, name, len) && option[len] == '=' ? option + len + 1 : NULL;
}

static bool take_text(struct shunt_trace_options *to, const char *option)
{
	const char *value;

	if ((value = value_of(option, "filter")))
		to->filter = value;
	else if ((value = value_of(option, "notrace")))
		to->notrace = value;
	else if ((value = value_of(option, "path")))
		to->path = value;
	else
		return false;
	return true;
}

static bool take_number(struct shunt_trace_options *to, const char *option)
{
	const char *value;
	uint64_t number;

	if ((value = value_of(option, "min")))
		return read_number(value, &to->min_ns);
	if ((value = value_of(option, "auto_off")))
		return read_number(value, &to->auto_off_ns);
	if ((value = value_of(option, "ring"))) {
		if (!read_number(value, &number))
			return false;
		to->ring_size = number;
		return true;
	}
	if (!strcmp(option, "mode=flight"))
		to->mode = SHUNT_TRACE_FLIGHT;
	else if (!strcmp(option, "entries=1"))
		to->entry_only = 1;
	else
		return false;
	return true;
}

/* ------------------------------------------------------------------------- public */

/* Without a descriptor more there is none to save to, as before. */
static void keep_file(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy >= 0)
		(void)agent_keep(&kept, copy);
}

static int start_session(struct agent_client *client, const struct shunt_trace_options *options)
{
	int err;

	agent_hold_fork();
	open_watch();
	err = shunt_trace_start(options);
	if (err) {
		close_watch();
	} else {
		note_what(options);
		if (options->mode == SHUNT_TRACE_FLIGHT)
			keep_file(options->fd);
		owner = client;
		client->has_session = true;
	}
	agent_allow_fork();
	return err;
}

static int stop_session(void)
{
	int err = shunt_trace_stop(), again;

	is_left = false;
	if (!err || err == -EINVAL)
		return err;
	/* The poke failed: it runs on; or writing did: it has ended. */
	again = shunt_trace_stop();
	is_left = again && again != -EINVAL;
	return again == -EINVAL ? err : again;
}

/* The last session, whose stop was refused. */
static bool end_what_is_left(struct agent_reply *reply)
{
	if (!is_left)
		return true;
	agent_hold_fork();
	(void)stop_session();
	agent_allow_fork();
	if (is_left)
		agent_reply_fail(reply, EBUSY, "the last session has not ended: %s",
				 shunt_last_error());
	return !is_left;
}

void agent_session_start(struct agent_client *client, char **words, size_t n,
			 struct agent_reply *reply)
{
	struct shunt_trace_options options = {.size = sizeof(options), .path = ""};
	int err;

	for (size_t i = 0; i < n; i++)
		if (!take_text(&options, words[i]) && !take_number(&options, words[i])) {
			agent_reply_fail(reply, EINVAL, "trace: no such option: %s", words[i]);
			return;
		}
	if (agent_session_is_over())
		agent_session_end();
	if (owner) {
		agent_reply_fail(reply, EBUSY,
				 "it is being traced already, by process %s; its filter is %s",
				 agent_session_owner(), what);
		return;
	}
	if (!end_what_is_left(reply) || !is_writable_file(client, reply))
		return;
	options.fd = client->passed.fd;
	options.save_on_crash = options.mode == SHUNT_TRACE_FLIGHT ? 2 : 0;
	err = start_session(client, &options);
	if (err)
		agent_reply_fail(reply, -err,
				 err == -EBUSY ? "the program records a session of its own" : "%s",
				 shunt_last_error());
}

static void reply_totals(struct agent_reply *reply)
{
	struct shunt_trace_stats stats;

	shunt_trace_get_stats(&stats);
	agent_reply_number(reply, "events", stats.events);
	agent_reply_number(reply, "lost", stats.lost);
	agent_reply_number(reply, "no_return", stats.no_return);
	agent_reply_number(reply, "threads", stats.threads);
	agent_reply_number(reply, "functions", stats.functions);
	agent_reply_number(reply, "switched_off", stats.switched_off);
}

static int end_session(struct agent_client *client)
{
	int err;

	agent_hold_fork();
	err = stop_session();
	owner = NULL;
	client->has_session = false;
	agent_close(&kept);
	close_watch();
	agent_allow_fork();
	return err;
}

void agent_session_stop(struct agent_client *client, struct agent_reply *reply)
{
	int err;

	if (owner != client) {
		agent_reply_fail(reply, EINVAL, "stop: this client has no session");
		return;
	}
	err = end_session(client);
	if (err)
		agent_reply_fail(reply, -err, "%s", shunt_last_error());
	else
		reply_totals(reply);
}

void agent_session_snapshot(const struct agent_client *client, struct agent_reply *reply)
{
	int err;

	if (!is_writable_file(client, reply))
		return;
	err = shunt_trace_save_fd(client->passed.fd);
	if (err)
		agent_reply_fail(reply, -err, "%s", shunt_last_error());
	else
		reply_totals(reply);
}

void agent_session_drop(struct agent_client *client)
{
	if (owner == client && client->has_session)
		(void)end_session(client);
}

/* Where what was kept cannot be saved: an empty file, and who asks nothing meanwhile is told why.
 */
static void keep_what_there_is(const struct agent_client *client)
{
	char text[700];
	int n;

#ifdef AGENT_LOSES_FLIGHT /* tests/agent: a control */
	return;
#endif
	if (!agent_is_ours(&kept) || !shunt_trace_save_fd(kept.fd))
		return;
	(void)!ftruncate(kept.fd, 0);
	n = snprintf(text, sizeof(text), "lost %s\n", shunt_last_error());
	n = n < (int)sizeof(text) ? n : (int)sizeof(text) - 1;
	if (!client->answer && !client->have && agent_is_ours(&client->socket))
		(void)!send(client->socket.fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void agent_session_end(void)
{
	if (!owner)
		return;
	keep_what_there_is(owner);
	(void)end_session(owner);
}
