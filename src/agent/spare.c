/* SPDX-License-Identifier: MIT */
/*
 * A descriptor that is kept for who connects when the program has used all of its own: that is when
 * somebody wants to look. It is closed for one client, whose socket becomes it again in one step,
 * so that the program cannot come in between. It is the listening socket once more, which, other
 * than an eventfd, has an inode that is nobody else's.
 */
#include <fcntl.h>
#include <unistd.h>

#include "agent/agent.h"

#ifdef AGENT_IS_NEVER_DEAF /* tests/agent: a control; this is another */
#define AGENT_NO_SPARE
#endif

void agent_spare_take(struct agent_server *server)
{
	int fd;

#ifdef AGENT_NO_SPARE
	return;
#endif
	if (server->spare.fd >= 0 && !agent_is_ours(&server->spare))
		server->spare.fd = -1;
	if (server->spare.fd >= 0 || !agent_is_ours(&server->address.socket))
		return;
	agent_hold_fork();
	fd = fcntl(server->address.socket.fd, F_DUPFD_CLOEXEC, 3);
	if (fd >= 0)
		(void)agent_keep(&server->spare, fd);
	agent_allow_fork();
}

bool agent_spare_give(struct agent_server *server)
{
	bool was_there = agent_is_ours(&server->spare);

	agent_close(&server->spare);
	return was_there;
}

void agent_spare_regain(struct agent_server *server, struct agent_descriptor *from)
{
	const struct agent_descriptor *like = &server->address.socket;

	if (server->spare.fd >= 0 || !agent_is_ours(from) || !agent_is_ours(like))
		return;
	agent_hold_fork();
	if (dup3(like->fd, from->fd, O_CLOEXEC) == from->fd) {
		server->spare = *like;
		server->spare.fd = from->fd;
		from->fd = -1;
	}
	agent_allow_fork();
}
