/* SPDX-License-Identifier: MIT */
/*
 * The agent's thread: one poll() for all. A request is answered when its line is whole; nothing
 * waits for a client, and one that does nothing for long is disconnected.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "linux/entry/entries.h"

enum {
	/* How long it does not look for clients when none can be let in, for want of a descriptor.
	 */
	AGENT_DEAF_MS = 250,
	/* Behind a client whose socket the program has closed, which sees so that the agent is
	   there. */
	AGENT_LINGER_MS = 1000
};

/* ------------------------------------------------------------------- clients */

static void drop(struct agent_server *server, struct agent_client *client)
{
	if (client->socket.fd >= 0 && !agent_is_ours(&client->socket))
		server->lingers_until = agent_now_ms() + AGENT_LINGER_MS;
#ifndef AGENT_KEEPS_SESSIONS /* tests/agent: a control */
	agent_session_drop(client);
#endif
	agent_spare_regain(server, &client->socket);
	agent_close_here(&client->socket);
	agent_close_here(&client->passed);
	agent_free(client->request);
	agent_free(client->answer);
	*client = (struct agent_client){.socket.fd = -1, .passed.fd = -1};
}

/* Whether the peer may ask anything: the user that the process runs as now, and root. */
static bool is_allowed(int fd, struct agent_client *client)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	client->pid = peer.pid;
	client->uid = peer.uid;
#ifdef AGENT_NO_RIGHTS /* the tests' control */
	return true;
#endif
	return peer.uid == 0 || peer.uid == geteuid();
}

static void refuse(int fd, const char *answer)
{
	(void)send(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fd);
}

static struct agent_client *free_slot(struct agent_server *server)
{
	for (size_t i = 0; i < AGENT_CLIENTS; i++)
		if (server->clients[i].socket.fd < 0)
			return &server->clients[i];
	return NULL;
}

/*
 * Who connects stays in the queue where there is no descriptor for it, and the socket readable: to
 * ask again at once would take a CPU.
 */
static int accept_one(struct agent_server *server)
{
	int at = server->address.socket.fd;
	int fd = accept4(at, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && errno == EMFILE && agent_spare_give(server))
		fd = accept4(at, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
#ifndef AGENT_IS_NEVER_DEAF /* tests/agent: a control */
	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		server->deaf_until = agent_now_ms() + AGENT_DEAF_MS;
#endif
	return fd;
}

static void accept_client(struct agent_server *server)
{
	int fd = accept_one(server);
	struct agent_client *slot = free_slot(server), client = {.passed.fd = -1};

	if (fd < 0)
		return;
	if (!is_allowed(fd, &client)) {
		refuse(fd, "error 1 the process is another user's\n");
		return;
	}
	if (!slot) {
		refuse(fd, "error 11 the agent has as many clients as it takes\n");
		return;
	}
	if (agent_keep(&client.socket, fd))
		return;
	client.since = agent_now_ms();
	*slot = client;
	server->text_drops = 0;
	server->lingers_until = 0;
}

static void take_client(struct agent_server *server)
{
	agent_hold_fork();
	accept_client(server);
	agent_allow_fork();
}

/* ------------------------------------------------------------------- answers */

static void send_answer(struct agent_server *server, struct agent_client *client)
{
	ssize_t n = send(client->socket.fd, client->answer + client->sent,
			 client->size - client->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(server, client);
		return;
	}
	client->sent += (size_t)n;
	client->since = agent_now_ms();
	if (client->sent < client->size)
		return;
	agent_free(client->answer);
	client->answer = NULL;
	client->size = client->sent = 0;
}

/* The head and what the reply has become the client's answer. No memory: it is disconnected. */
static void take_answer(struct agent_server *server, struct agent_client *client,
			struct agent_reply *reply)
{
	char head[sizeof(reply->message) + 64];
	int len = reply->error ? snprintf(head, sizeof(head), "error %d %s\n", reply->error,
					  reply->message)
			       : snprintf(head, sizeof(head), "ok %zu\n", reply->size);
	size_t body = reply->error ? 0 : reply->size;

	client->answer = agent_alloc((size_t)len + body);
	if (client->answer) {
		memcpy(client->answer, head, (size_t)len);
		if (body)
			memcpy(client->answer + len, reply->text, body);
		client->size = (size_t)len + body;
	}
	agent_free(reply->text);
	if (client->answer)
		send_answer(server, client);
	else
		drop(server, client);
}

static void answer(struct agent_server *server, struct agent_client *client)
{
	struct agent_reply reply = {0};

	agent_answer(server, client, client->request, &reply);
	agent_close_here(&client->passed);
	client->has_lost_passed = false;
	agent_free(client->request);
	client->request = NULL;
	client->have = 0;
	client->since = agent_now_ms();
	take_answer(server, client, &reply);
}

/* ------------------------------------------------------------------ requests */

/* The descriptors that came: the first is kept. */
static void take_descriptors(struct agent_client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n =
			c->cmsg_len < CMSG_LEN(0) ? 0 : (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (client->passed.fd < 0)
				(void)agent_keep(&client->passed, fd);
			else
				(void)close(fd);
		}
	}
}

/* Read what there is; false: the client has gone. */
static bool receive(struct agent_client *client)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {client->request + client->have, AGENT_REQUEST - client->have};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n;
	int error;

	agent_hold_fork();
	n = recvmsg(client->socket.fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	error = errno;
	if (n >= 0)
		take_descriptors(client, &message);
	client->has_lost_passed |=
		n >= 0 && (message.msg_flags & MSG_CTRUNC) && client->passed.fd < 0;
	agent_allow_fork();
	if (n < 0)
		return error == EAGAIN || error == EINTR;
	client->have += (size_t)n;
	return n > 0;
}

/* Whoever sends more than a request, or does not wait for its answer, is no client of ours. */
static void read_request(struct agent_server *server, struct agent_client *client)
{
	char *end;

	if (!client->request) {
		client->request = agent_alloc(AGENT_REQUEST);
		client->since = agent_now_ms();
	}
	if (!client->request || !receive(client)) {
		drop(server, client);
		return;
	}
	end = memchr(client->request, '\n', client->have);
	if (!end) {
		if (client->have == AGENT_REQUEST)
			drop(server, client);
		return;
	}
	if (end + 1 != client->request + client->have) {
		drop(server, client);
		return;
	}
	*end = '\0';
	answer(server, client);
}

static void serve_client(struct agent_server *server, struct agent_client *client, short events)
{
	if (!agent_is_ours(&client->socket)) {
		drop(server, client);
		return;
	}
	if (client->answer)
		send_answer(server, client);
	else if (events & (POLLIN | POLLHUP | POLLERR))
		read_request(server, client);
	if (client->is_last && !client->answer)
		atomic_store(&server->stop, true);
}

/* --------------------------------------------------------------------- times */

/* ms from the client's last progress to its end; -1: any time. */
static int patience(const struct agent_client *client)
{
	if (client->answer || client->have)
		return AGENT_PATIENCE_MS;
	return client->has_session ? -1 : AGENT_IDLE_MS;
}

/* Disconnect who is late; ms until the next one may be. */
static int drop_late(struct agent_server *server)
{
	long long now = agent_now_ms(), next = AGENT_LOOK_MS;

	if (server->deaf_until > now)
		next = server->deaf_until - now;
	if (server->lingers_until > now && server->lingers_until - now < next)
		next = server->lingers_until - now;
	if (server->opens_at && server->opens_at - now < next)
		next = server->opens_at > now ? server->opens_at - now : 0;
	for (size_t i = 0; i < AGENT_CLIENTS; i++) {
		struct agent_client *client = &server->clients[i];
		int limit = client->socket.fd < 0 ? -1 : patience(client);
		long long left = client->since + limit - now;

		if (limit < 0)
			continue;
		if (left <= 0)
			drop(server, client);
		else if (left < next)
			next = left;
	}
	return (int)next;
}

/* poll() takes no more entries than RLIMIT_NOFILE, also of those that are none. */
static bool is_polled(int fd)
{
#ifdef AGENT_POLLS_ALL /* the tests' control */
	return true;
#endif
	return fd >= 0;
}

/* Of what wakes it, which may be the program's meanwhile: its own descriptors are looked at next.
 */
static void empty(const struct agent_server *server)
{
	char bytes[16];

	if (agent_is_ours(&server->wake))
		(void)!read(server->wake.fd, bytes, sizeof(bytes));
}

static void wait_and_serve(struct agent_server *server, int timeout)
{
	struct pollfd polled[AGENT_CLIENTS + 4]; /* the last one is agent_poll()'s */
	struct agent_client *of[AGENT_CLIENTS + 3] = {NULL};
	bool is_deaf =
		agent_now_ms() < server->deaf_until || !agent_is_ours(&server->address.socket);
	int listening = is_deaf ? -1 : server->address.socket.fd;
	/* Its end is seen by descriptors that are no more its own; it would be seen again at once.
	 */
	int wake = server->opens_at ? -1 : server->wake.fd;
	const int others[] = {listening, wake, agent_session_watch()};
	nfds_t n = 0;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (is_polled(others[i]))
			polled[n++] = (struct pollfd){.fd = others[i], .events = POLLIN};
	for (size_t i = 0; i < AGENT_CLIENTS; i++) {
		struct agent_client *client = &server->clients[i];

		if (!is_polled(client->socket.fd))
			continue;
		of[n] = client;
		polled[n++] = (struct pollfd){.fd = client->socket.fd,
					      .events = client->answer ? POLLOUT : POLLIN};
	}
	if (agent_poll(server, polled, n, timeout) < 0) {
		if (errno != EINTR) /* a limit of 0: nobody is served, and no CPU taken */
			agent_nap(AGENT_DEAF_MS);
		return;
	}
	for (nfds_t i = 0; i < n; i++)
		if (wake >= 0 && polled[i].fd == wake && polled[i].revents & POLLIN)
			empty(server);
	for (nfds_t i = 0; i < n; i++)
		if (of[i] && polled[i].revents)
			serve_client(server, of[i], polled[i].revents);
	if (listening >= 0 && polled[0].revents && agent_is_ours(&server->address.socket))
		take_client(server);
}

static void see_to_folder(struct agent_server *server)
{
	char folder[sizeof(server->address.path)];
	long long now = agent_now_ms();
	char *slash;

	if (server->has_no_socket || now - server->cleaned < AGENT_LOOK_MS)
		return;
	server->cleaned = now;
	(void)snprintf(folder, sizeof(folder), "%s", server->address.path);
	slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	agent_hold_fork(); /* it has descriptors meanwhile */
	agent_remove_stale(folder, server->address.path);
	agent_allow_fork();
}

static bool has_clients(const struct agent_server *server)
{
	return agent_has_other_clients(server, NULL);
}

/*
 * What it has of memory while it sleeps is its own data, and no text. A second time when it next
 * wakes up, for the first time the client may not have ended yet, and have the same files mapped.
 */
static void get_small(struct agent_server *server)
{
	if (server->is_child || server->text_drops == 2 || has_clients(server))
		return;
#ifndef AGENT_KEEPS_TEXT /* the tests' control */
	agent_drop_text();
#endif
	server->text_drops++;
}

void agent_serve(struct agent_server *server)
{
	size_t left;

	server->cleaned = agent_now_ms();
	while (!atomic_load(&server->stop)) {
		if (agent_is_alone(server)) {
			atomic_store(&server->stop, true);
			break;
		}
		if (agent_session_is_over())
			agent_session_end();
		if (agent_is_over(server)) {
			/* What could not be taken back libshunt says. */
			(void)shunt_entries_restore(&left);
			atomic_store(&server->stop, true);
			break;
		}
		if (agent_see_to_descriptors(server))
			continue;
		agent_spare_take(server);
		see_to_folder(server);
		get_small(server);
		wait_and_serve(server, drop_late(server));
	}
#ifndef AGENT_KEEPS_SESSIONS
	if (!atomic_load(&server->is_replaced))
		agent_session_end();
#endif
	/* Else they go as the process does, whose end they see so. */
	for (size_t i = 0; i < AGENT_CLIENTS && !server->is_alone; i++)
		drop(server, &server->clients[i]);
	agent_hold_fork();
	agent_close(&server->spare);
	agent_close(&server->other);
	if (agent_is_ours(&server->address.socket))
		agent_unlisten(&server->address);
	agent_allow_fork();
}

void agent_abandon(struct agent_server *server)
{
	for (size_t i = 0; i < AGENT_CLIENTS; i++) {
		agent_close(&server->clients[i].socket);
		agent_close(&server->clients[i].passed);
		/* Memory that another thread may have been at is left. */
		server->clients[i] = (struct agent_client){.socket.fd = -1, .passed.fd = -1};
	}
	agent_close(&server->address.socket);
	agent_close(&server->address.file);
	agent_close_wake(server);
	agent_close(&server->spare);
	agent_close(&server->other);
}
