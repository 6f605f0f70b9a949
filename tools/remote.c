/* SPDX-License-Identifier: MIT */
/*
 * The client's side of the agent's socket. A process's agent is found by its descriptors and the
 * names of the sockets in its network namespace, so that nothing need be registered anywhere, and
 * is reached through /proc/PID/root, so that a container or chroot is no obstacle.
 */
#include "remote.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PATIENCE = 60,          /* s, for each part of an answer */
	REQUEST_MAX = 64 << 10, /* bytes, as the agent takes them */
	HEAD_MAX = 1024,        /* of an answer */
	ANSWER_MAX = 256 << 20,
	SOCKETS_MAX = 65536 /* descriptors of a process that are looked at */
};

/* ---------------------------------------------------------------------- finding it */

/* The process's number as it sees itself; @pid where the kernel does not say. */
static pid_t inner_pid(pid_t pid)
{
	char path[64], line[256];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		const char *last = strrchr(line, '\t');

		if (!strncmp(line, "NSpid:", 6) && last)
			pid = (pid_t)strtol(last + 1, NULL, 10);
	}
	if (file)
		(void)fclose(file);
	return pid;
}

/* Whether @path is the name that the agent of the process that calls itself @pid gives. */
static bool is_agents_name(const char *path, pid_t pid)
{
	const char *file = strrchr(path, '/');
	char *end;

	if (!file || !strstr(path, "/shunt"))
		return false;
	return strtol(file + 1, &end, 10) == pid && *end == '-';
}

/* Whether descriptor @name of the process, whose descriptors are in @dir, is socket @inode. */
static bool is_socket(int dir, const char *name, uint64_t inode)
{
	char target[64], wanted[64];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	(void)snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
	target[n > 0 ? n : 0] = '\0';
	return !strcmp(target, wanted);
}

/* Whether process @pid has socket @inode. Where its descriptors cannot be read: by the name. */
static bool has_socket(pid_t pid, uint64_t inode)
{
	const struct dirent *entry;
	bool found = false;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == EACCES || errno == EPERM;
	for (unsigned n = 0; !found && n < SOCKETS_MAX && (entry = readdir(dir)); n++)
		found = is_socket(dirfd(dir), entry->d_name, inode);
	(void)closedir(dir);
	return found;
}

/* One line of /proc/PID/net/unix: the inode and name of a socket that listens. */
static bool read_socket(const char *line, uint64_t *inode, char *path)
{
	unsigned flags;

	/* NOLINTNEXTLINE(cert-err34-c): numbers of the kernel's */
	return sscanf(line, "%*x: %*x %*x %x %*x %*x %" SCNu64 " %107s", &flags, inode, path) ==
		       3 &&
	       flags & 0x10000 && path[0] == '/';
}

int remote_find(pid_t pid, char *path)
{
	char name[64], *line = NULL;
	pid_t inner = inner_pid(pid);
	size_t room = 0;
	int err = -ENOENT;
	uint64_t inode;
	FILE *file;

	(void)snprintf(name, sizeof(name), "/proc/%d/net/unix", (int)pid);
	file = fopen(name, "re");
	if (!file)
		return errno == ENOENT || errno == EINVAL ? -ESRCH : -errno;
	while (err && getline(&line, &room, file) > 0)
		if (read_socket(line, &inode, path) && is_agents_name(path, inner) &&
		    has_socket(pid, inode))
			err = 0;
	free(line);
	(void)fclose(file);
	return err;
}

/* --------------------------------------------------------------------- connecting */

/* Who listens there is @pid, as far as that can be seen from this process's namespace. */
static bool is_its_socket(int fd, pid_t pid)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (!peer.pid || peer.pid == pid);
}

static int connect_to(pid_t pid, const char *root, const char *path)
{
	struct timeval patience = {.tv_sec = PATIENCE};
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int len = snprintf(to.sun_path, sizeof(to.sun_path), "%s%s", root, path), err = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (len >= (int)sizeof(to.sun_path))
		err = -ENAMETOOLONG;
	else if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
		 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
		 connect(fd, (const struct sockaddr *)&to, sizeof(to)))
		err = -errno;
	else if (!is_its_socket(fd, pid))
		err = -ENOENT;
	if (!err)
		return fd;
	(void)close(fd);
	return err;
}

static void say_why(int err, pid_t pid, char *why, size_t size)
{
	if (err == -ESRCH)
		(void)snprintf(why, size, "no process %d", (int)pid);
	else if (err == -ENOENT)
		(void)snprintf(why, size, "process %d has no agent in it", (int)pid);
	else if (err == -EACCES || err == -EPERM)
		(void)snprintf(why, size, "process %d is another user's", (int)pid);
	else
		(void)snprintf(why, size, "the agent of process %d: %s", (int)pid, strerror(-err));
}

int remote_connect(pid_t pid, char *why, size_t size)
{
	char path[REMOTE_PATH], root[32];
	int ret = remote_find(pid, path);

	if (!ret) {
		(void)snprintf(root, sizeof(root), "/proc/%d/root", (int)pid);
		ret = connect_to(pid, root, path);
		/* It may have changed its root since, or not let its root be seen. */
		if (ret == -ENOENT || ret == -EACCES || ret == -ECONNREFUSED)
			ret = connect_to(pid, "", path);
	}
	if (ret < 0)
		say_why(ret, pid, why, size);
	return ret;
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

static int receive(int fd, char *to, size_t size)
{
	while (size) {
		ssize_t n = recv(fd, to, size, 0);

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
static int receive_head(int fd, char head[HEAD_MAX])
{
	for (size_t i = 0; i < HEAD_MAX; i++) {
		int err = receive(fd, head + i, 1);

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

static int receive_body(int fd, size_t size, char **reply, size_t *reply_size)
{
	char *text = malloc(size + 1);
	int err = text ? receive(fd, text, size) : -ENOMEM;

	if (err || !reply) {
		free(text);
		return err;
	}
	text[size] = '\0';
	*reply = text;
	*reply_size = size;
	return 0;
}

static int receive_answer(int fd, char **reply, size_t *reply_size, char *why, size_t size)
{
	char head[HEAD_MAX];
	int err = receive_head(fd, head);
	unsigned long long body;

	if (err)
		return err;
	/* NOLINTNEXTLINE(cert-err34-c): what is too large becomes too large */
	if (sscanf(head, "ok %llu", &body) != 1)
		return take_error(head, why, size);
	return body > ANSWER_MAX ? -EPROTO : receive_body(fd, (size_t)body, reply, reply_size);
}

int remote_ask(int fd, const char *const words[], size_t n, int passed_fd, char **reply,
	       size_t *reply_size, char *why, size_t size)
{
	size_t request_size;
	char *line = make_request(words, n, &request_size);
	int err = line ? 0 : -ENOMEM, sent;

	why[0] = '\0';
	if (!err && request_size > REQUEST_MAX)
		err = -E2BIG;
	if (!err) {
		sent = send_request(fd, line, request_size, passed_fd);
		/* An agent that refuses a client says why before it reads anything. */
		err = sent == -ETIMEDOUT ? sent : receive_answer(fd, reply, reply_size, why, size);
	}
	free(line);
	if (err && !why[0])
		(void)snprintf(why, size, "the agent: %s",
			       err == -ECONNRESET || err == -EPIPE ? "it has disconnected"
			       : err == -EPROTO ? "it does not speak this protocol"
			       : err == -E2BIG  ? "the request is too long"
						: strerror(-err));
	return err;
}

/* ------------------------------------------------------------------------ answers */

static void unescape(char *word)
{
	char *to = word;

	for (const char *from = word; *from; from++) {
		char c = *from;

		if (c == '\\' && from[1]) {
			from++;
			c = (char)(*from == 't' ? '\t' : *from == 'n' ? '\n' : *from);
		}
		*to++ = c;
	}
	*to = '\0';
}

/* Cut @text at the first @c; what is behind it, or NULL. */
static char *cut(char *text, char c)
{
	char *at = strchr(text, c);

	if (at)
		*at++ = '\0';
	return at;
}

bool remote_next_line(char **at, char **words, size_t max, size_t *n)
{
	static char none[1];
	char *word = *at, *next;

	*n = 0;
	for (size_t i = 0; i < max; i++)
		words[i] = none;
	if (!word || !*word)
		return false;
	*at = cut(word, '\n');
	for (; word && *n < max; word = next) {
		next = cut(word, '\t');
		unescape(word);
		words[(*n)++] = word;
	}
	return true;
}
