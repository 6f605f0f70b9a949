/* SPDX-License-Identifier: MIT */
/*
 * The client's side of the agent's socket, which is reached through /proc/PID/root, so that a
 * container or chroot is no obstacle.
 */
#include "remote.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"
#include "proc_status.h"

#define PROTOCOL "1" /* src/agent/agent.h */

enum {
	/* For an agent whose thread is there to have a socket again: the program has closed that,
	   or it is about to end. */
	AGAIN_MS = 600,
	AGAIN_TURN_MS = 2,
	PATIENCE_MS = 60000,    /* for each part of an answer */
	TURN_MS = 20,           /* between two trials to get a place */
	REQUEST_MAX = 64 << 10, /* bytes, as the agent takes them */
	HEAD_MAX = 1024,        /* of an answer */
	ANSWER_MAX = 256 << 20
};

static bool exists(pid_t pid)
{
	struct proc_status status;

	return !proc_status_read(pid, &status) && status.tgid;
}

/* What it is that has no agent: -ENOENT; or -ESRCH, and it can have none. */
static int say_without(pid_t pid, char *why, size_t size)
{
	struct proc_status status, alive = {0};

	(void)proc_status_read(pid, &status);
	/* Where another thread executes a program it takes the number of the first, which has
	 * ended. */
	for (int tries = 0; tries < 3 && !alive.has_memory; tries++)
		(void)proc_status_read(remote_thread(pid), &alive);
	if (status.tgid && status.tgid != pid)
		(void)snprintf(why, size, "%d is a thread of process %d", (int)pid,
			       (int)status.tgid);
	else if (!alive.has_memory && strchr("ZX", alive.state)) /* or it is not there: '\0' */
		(void)snprintf(why, size, "process %d has ended (a zombie)", (int)pid);
	else if (!alive.has_memory && remote_is_of_kernel(pid))
		(void)snprintf(why, size, "%d is a thread of the kernel", (int)pid);
	else if (!alive.has_memory)
		(void)snprintf(why, size, "process %d is about to end", (int)pid);
	else {
		(void)snprintf(why, size, "process %d has no agent in it", (int)pid);
		return -ENOENT;
	}
	return -ESRCH;
}

/* It has become this user's since its agent was started (setuid()). */
static bool is_mine(pid_t pid)
{
	struct proc_status status;

	return geteuid() && !proc_status_read(pid, &status) && status.real_uid == geteuid();
}

static int say_why(int err, pid_t pid, char *why, size_t size)
{
	if (err == -ESRCH && !exists(pid))
		(void)snprintf(why, size, "no process %d", (int)pid);
	else if (err == -ESRCH || err == -ENOENT)
		return say_without(pid, why, size);
	else if ((err == -EACCES || err == -EPERM) && is_mine(pid))
		(void)snprintf(
			why, size,
			"the agent of process %d was started as another user: root can ask it",
			(int)pid);
	else if (err == -EACCES || err == -EPERM)
		(void)snprintf(why, size, "process %d is another user's", (int)pid);
	else if (err == -EAGAIN)
		(void)snprintf(why, size,
			       "the agent of process %d has as many clients as it takes, and none "
			       "has gone meanwhile",
			       (int)pid);
	else if (err == -ETIMEDOUT)
		remote_say_mute(pid, why, size);
	else if (err == -ECONNRESET || err == -EPIPE)
		(void)snprintf(why, size,
			       remote_is_ending(pid) ? "process %d has ended"
						     : "the agent of process %d has disconnected",
			       (int)pid);
	else if (err == -EINTR)
		(void)snprintf(why, size, "interrupted before process %d has answered", (int)pid);
	else if (err == -EPROTO)
		(void)snprintf(why, size,
			       "the agent of process %d does not speak protocol " PROTOCOL,
			       (int)pid);
	else
		(void)snprintf(why, size, "the agent of process %d: %s", (int)pid, strerror(-err));
	return err;
}

/* ------------------------------------------------------------------------- asking */

/* @word with escapes behind @to, which has room for twice its length; the end of it. */
static char *escape(char *to, const char *word)
{
	for (; *word; word++) {
		char c = *word;

		if (c == '\t' || c == '\n' || c == '\\') {
			*to++ = '\\';
			c = (char)(c == '\t' ? 't' : c == '\n' ? 'n' : c);
		}
		*to++ = c;
	}
	return to;
}

/* The line of the request, of malloc(); NULL: no memory. */
static char *make_request(const char *const words[], size_t n, size_t *size)
{
	size_t room = 1;
	char *line, *end;

	for (size_t i = 0; i < n; i++)
		room += 2 * strlen(words[i]) + 1;
	line = end = malloc(room);
	for (size_t i = 0; line && i < n; i++) {
		if (i)
			*end++ = '\t';
		end = escape(end, words[i]);
	}
	if (line)
		*end++ = '\n';
	*size = (size_t)(end - line);
	return line;
}

/* The first part takes the descriptor along. */
static int send_request(int fd, char *line, size_t size, int passed_fd)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
			      .cmsg_level = SOL_SOCKET,
			      .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {line, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	memcpy(CMSG_DATA(&control.head), &passed_fd, sizeof(passed_fd));
	if (passed_fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_LEN(sizeof(int));
	}
	while (part.iov_len) {
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		part.iov_base = (char *)part.iov_base + n;
		part.iov_len -= (size_t)n;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

static long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* An agent that is asked, and until when its whole answer must be there, ms; 0: PATIENCE_MS for
 * each part. */
struct peer {
	int fd;
	long long until;
};

/* ms */
static int patience_with(const struct peer *peer)
{
	long long left = peer->until ? peer->until - now_ms() : PATIENCE_MS;

	return left > 0 ? (int)left : 0;
}

static int receive(const struct peer *peer, char *to, size_t size)
{
	while (size) {
		int err = interrupt_wait(peer->fd, POLLIN, patience_with(peer));
		ssize_t n;

		if (err)
			return err;
		n = recv(peer->fd, to, size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (!n)
			return -ECONNRESET;
		to += n;
		size -= (size_t)n;
	}
	return 0;
}

/* The first line of the answer, without its end. */
static int receive_head(const struct peer *peer, char head[HEAD_MAX])
{
	for (size_t i = 0; i < HEAD_MAX; i++) {
		int err = receive(peer, head + i, 1);

		if (err)
			return err;
		if (head[i] == '\n') {
			head[i] = '\0';
			return 0;
		}
	}
	return -EPROTO;
}

/* "error NUMBER MESSAGE" -> -errno and @why. */
static int take_error(const char *head, char *why, size_t size)
{
	char *message;
	long number;

	if (strncmp(head, "error ", 6) != 0)
		return -EPROTO;
	number = strtol(head + 6, &message, 10);
	if (number <= 0 || number > 4095)
		return -EPROTO;
	(void)snprintf(why, size, "%s", *message ? message + 1 : strerror((int)number));
	return -(int)number;
}

static int receive_body(const struct peer *peer, size_t size, char **reply, size_t *reply_size)
{
	char *text = malloc(size + 1);
	int err = text ? receive(peer, text, size) : -ENOMEM;

	if (err || !reply) {
		free(text);
		return err;
	}
	text[size] = '\0';
	*reply = text;
	*reply_size = size;
	return 0;
}

static int receive_answer(const struct peer *peer, char **reply, size_t *reply_size, char *why,
			  size_t size)
{
	char head[HEAD_MAX];
	int err = receive_head(peer, head);
	unsigned long long body;

	if (err)
		return err;
	/* NOLINTNEXTLINE(cert-err34-c): what is too large becomes too large */
	if (sscanf(head, "ok %llu", &body) != 1)
		return take_error(head, why, size);
	return body > ANSWER_MAX ? -EPROTO : receive_body(peer, (size_t)body, reply, reply_size);
}

static int ask(const struct peer *peer, const char *const words[], size_t n, int passed_fd,
	       char **reply, size_t *reply_size, char *why, size_t size)
{
	size_t request_size;
	char *line = make_request(words, n, &request_size);
	int err = line ? 0 : -ENOMEM, sent;

	why[0] = '\0';
	if (!err && request_size > REQUEST_MAX)
		err = -E2BIG;
	if (!err) {
		sent = send_request(peer->fd, line, request_size, passed_fd);
		/* An agent that refuses a client says why before it reads anything. */
		err = sent == -ETIMEDOUT ? sent
					 : receive_answer(peer, reply, reply_size, why, size);
	}
	free(line);
	if (err && !why[0])
		(void)snprintf(why, size, "the agent: %s",
			       err == -ECONNRESET || err == -EPIPE ? "it has disconnected"
			       : err == -EPROTO    ? "it does not speak this protocol"
			       : err == -E2BIG     ? "the request is too long"
			       : err == -EINTR     ? "interrupted"
			       : err == -ETIMEDOUT ? "it does not answer"
						   : strerror(-err));
	return err;
}

int remote_ask(int fd, const char *const words[], size_t n, int passed_fd, char **reply,
	       size_t *reply_size, char *why, size_t size)
{
	const struct peer peer = {.fd = fd};

	return ask(&peer, words, n, passed_fd, reply, reply_size, why, size);
}

int remote_ask_within(int fd, unsigned ms, const char *word, char **reply, char *why, size_t size)
{
	const struct peer peer = {fd, now_ms() + ms};
	size_t reply_size;
	int err = remote_set_patience(fd, ms + !ms);

	if (err) {
		(void)snprintf(why, size, "the agent: %s", strerror(-err));
		return err;
	}
	return ask(&peer, &word, 1, -1, reply, &reply_size, why, size);
}

/* ----------------------------------------------------------------------- a place */

/* 0, or -errno: -EAGAIN where it has refused this client for want of a place. */
static int greet(int fd, unsigned ms)
{
	struct remote_line line = {0};
	char why[700], *reply, *at;
	int err = remote_ask_within(fd, ms, "hello", &reply, why, sizeof(why));

	if (err)
		return err;
	at = reply;
	err = -EPROTO;
	while (err == -EPROTO && remote_next_line(&at, &line) > 0)
		if (!strcmp(line.words[0], "protocol") && !strcmp(line.words[1], PROTOCOL))
			err = 0;
	remote_line_free(&line);
	free(reply);
	return err ? err : remote_set_patience(fd, PATIENCE_MS);
}

static int connect_and_greet(pid_t pid, unsigned ms, bool is_as_owner)
{
	int fd = remote_connect_socket(pid, ms, is_as_owner), err;

	if (fd < 0)
		return fd;
	err = greet(fd, ms);
	if (!err)
		return fd;
	(void)close(fd);
	return err;
}

static int connect_with_rights(pid_t pid, unsigned ms)
{
	int ret = connect_and_greet(pid, ms, false);

	/* Not -EACCES: it has been reached, and has refused. */
	if (ret == -EPERM && !geteuid()) {
		ret = connect_and_greet(pid, ms, true);
		ret = ret == -EACCES ? -EPERM : ret;
	}
	return ret;
}

/* It has no place; or it has ended, or begun anew, meanwhile; or it will have a socket again. */
static bool is_tried_again(int ret, pid_t pid, long long began)
{
	if (ret == -ENOENT)
		return now_ms() - began < AGAIN_MS && remote_agent_thread(pid);
	return ret == -EAGAIN || ret == -ECONNRESET || ret == -EPIPE || ret == -ECONNREFUSED;
}

int remote_connect_within(pid_t pid, unsigned patience_ms, char *why, size_t size)
{
	long long began = now_ms(), end = began + patience_ms, left;
	bool was_full = false;
	int ret;

	do {
		left = end - now_ms();
		ret = connect_with_rights(pid, left > TURN_MS ? (unsigned)left : TURN_MS);
		was_full = was_full || ret == -EAGAIN;
		if (!is_tried_again(ret, pid, began))
			break;
		if (interrupt_wait(-1, 0, ret == -ENOENT ? AGAIN_TURN_MS : TURN_MS) == -EINTR)
			ret = -EINTR;
	} while (left > 0 && ret != -EINTR);
	/* The last time there were moments left to be answered in. */
	if (ret == -ETIMEDOUT && was_full)
		ret = -EAGAIN;
	return ret < 0 ? say_why(ret, pid, why, size) : ret;
}

int remote_connect(pid_t pid, char *why, size_t size)
{
	return remote_connect_within(pid, REMOTE_PATIENCE_MS, why, size);
}
