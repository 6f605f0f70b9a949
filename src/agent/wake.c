/* SPDX-License-Identifier: MIT */
/* The pipe by which the agent's thread is woken, and sees that the program closes descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

enum {
	/* Behind the end of its descriptors: a program that closes all of them opens its own first
	   ones next, for which no other thread must take their numbers. */
	CLOSED_MS = 250,
	FAILURES_MAX = 40 /* one behind the other, and then it is tried seldom */
};

long long agent_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int agent_open_wake(struct agent_server *server)
{
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	err = agent_keep(&server->wake, ends[0]);
	if (err) {
		(void)close(ends[1]);
		return err;
	}
	err = agent_keep(&server->far_end, ends[1]);
	if (err)
		agent_close(&server->wake);
	return err;
}

void agent_close_wake(struct agent_server *server)
{
	agent_close(&server->far_end);
	agent_close(&server->wake);
}

/* The thread may just be opening another one. */
void agent_wake(const struct agent_server *server)
{
	agent_hold_fork();
	if (agent_is_ours(&server->far_end))
		(void)!write(server->far_end.fd, "", 1);
	agent_allow_fork();
}

static void open_socket(struct agent_server *server)
{
	char message[600];

	if (server->has_no_socket || agent_is_ours(&server->address.socket))
		return;
	agent_close(&server->spare); /* it may be the old one still */
	agent_unlisten(&server->address);
	if (agent_listen(&server->address, server->is_child, message, sizeof(message)))
		server->address.socket.fd = -1;
}

static bool has_wake(const struct agent_server *server)
{
	return agent_is_ours(&server->wake) && agent_is_ours(&server->far_end);
}

static bool has_all(const struct agent_server *server)
{
	return has_wake(server) &&
	       (server->has_no_socket || agent_is_ours(&server->address.socket));
}

/* They may have been closed once more meanwhile; or cannot be had for long. */
static int again_ms(struct agent_server *server)
{
	return ++server->failures < FAILURES_MAX ? CLOSED_MS : AGENT_LOOK_MS;
}

/* A program that closes all descriptors gets the agent a socket of another name. */
bool agent_see_to_descriptors(struct agent_server *server)
{
	if (has_all(server)) {
		server->opens_at = 0;
		server->failures = 0;
		return false;
	}
	if (!server->opens_at)
		server->opens_at = agent_now_ms() + CLOSED_MS;
	if (agent_now_ms() < server->opens_at)
		return false;
	agent_hold_fork();
	if (!has_wake(server)) {
		agent_close_wake(server);
		(void)agent_open_wake(server);
	}
	open_socket(server);
	server->opens_at = has_all(server) ? 0 : agent_now_ms() + again_ms(server);
	agent_allow_fork();
	return true;
}
