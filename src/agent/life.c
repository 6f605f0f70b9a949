/* SPDX-License-Identifier: MIT */
/* Whether the agent stays when its last client has gone. */
#include "agent/agent.h"

_Atomic bool agent_is_in_children;

enum { FIRST_CLIENT_MS = 10000 /* for who has put it there to connect */ };

void agent_begin_temporary(struct agent_server *server)
{
	atomic_store(&server->life, AGENT_GOES);
	server->lingers_until = agent_now_ms() + FIRST_CLIENT_MS;
}

bool agent_has_other_clients(const struct agent_server *server, const struct agent_client *but)
{
	for (size_t i = 0; i < AGENT_CLIENTS; i++)
		if (server->clients[i].socket.fd >= 0 && &server->clients[i] != but)
			return true;
	return false;
}

bool agent_stays(struct agent_server *server)
{
	int life = AGENT_GOES;

#ifdef AGENT_NEVER_STAYS /* the tests' control */
	return atomic_load(&server->life) == life;
#endif
	return atomic_compare_exchange_strong(&server->life, &life, AGENT_STAYS);
}

/* Who has had it end reads the answer still. */
static bool has_last_client(const struct agent_server *server)
{
	for (size_t i = 0; i < AGENT_CLIENTS; i++)
		if (server->clients[i].socket.fd >= 0 && server->clients[i].is_last)
			return true;
	return false;
}

/* Who put it here has gone, or the parent's session has ended, and nobody else is there; or who has
 * had it end has gone meanwhile. */
bool agent_is_over(struct agent_server *server)
{
	int life = AGENT_GOES;

	if (server->has_no_socket)
		return !agent_session_is_parents();
	if (atomic_load(&server->life) == AGENT_ENDS)
		return !has_last_client(server);
	return !agent_has_other_clients(server, NULL) && agent_now_ms() >= server->lingers_until &&
	       atomic_compare_exchange_strong(&server->life, &life, AGENT_ENDS);
}
