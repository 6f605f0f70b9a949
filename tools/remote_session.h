/* SPDX-License-Identifier: MIT */
/* A session of `shunt trace -p`, and its end. */
#ifndef SHUNT_TOOLS_REMOTE_SESSION_H
#define SHUNT_TOOLS_REMOTE_SESSION_H

#include <stdbool.h>

#include "remote_out.h"
#include "remote_trace.h"
#include "trace_top.h"

struct session {
	const struct remote_trace *request;
	int agent, signals;
	int memory; /* of the process, as it was; -1: it may not be read */
	struct remote_out out;
	struct top top;
	struct live live; /* what the table shows */
	bool is_recorded; /* the file gets what is recorded, whatever happens at the end */
	bool is_placed;   /* see session_place(), */
	int place_status; /* which said that then */
	bool has_ended;   /* the process, or its agent, before this command has ended the session */
	bool is_told; /* by a signal or a key to end: a reader that does not read is not waited for
		       */
};

/*
 * Whether the program has closed the agent's connection: the process lives, the image that was
 * traced, and its agent, which answers on another one.
 */
bool session_has_closed(const struct session *s);
/*
 * The recording takes the place of the file that was there, which is aside then. Again: the same.
 * 0, or -1 having complained.
 */
int session_place(struct session *s);
/*
 * What was there goes, or is there again, where nothing was recorded, which is said. Again:
 * nothing. As above.
 */
int session_settle(struct session *s);
/* Whether something was recorded, as far as it is written. */
bool session_has_events(const struct session *s);
/* By this command. What was recorded, and where, is said. 0, or -1 having complained. */
int session_stop(struct session *s);
/* The process has ended, or its agent; what the recorder could, it has written. As above. */
int session_take(struct session *s);

#endif
