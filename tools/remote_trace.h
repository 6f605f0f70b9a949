/* SPDX-License-Identifier: MIT */
/* `shunt trace -p PID`: a session in a running process, through its agent. */
#ifndef SHUNT_TOOLS_REMOTE_TRACE_H
#define SHUNT_TOOLS_REMOTE_TRACE_H

#include <stdbool.h>
#include <sys/types.h>

struct remote_trace {
	pid_t pid;
	const char *filter, *notrace;            /* globs with a space between them; NULL: none */
	const char *file;                        /* absolute; NULL: none is kept */
	unsigned long long min_ns, ring, for_ns; /* 0: the default; until it is ended */
	bool is_flight, entries, keep_all, has_top;
};

/*
 * Record until the time is over, SIGINT, SIGTERM or SIGHUP come, or the process ends. Where there
 * is no agent one is put into the process, and taken away again. The exit status: 0; 1, having
 * complained.
 */
int remote_trace(const struct remote_trace *request);

/*
 * remote_untraceable.c: whether the session on @agent, which has just begun, traces anything. 0; or
 * -1 having said why not.
 */
int remote_check_traceable(pid_t pid, int agent);

#endif
