/* SPDX-License-Identifier: MIT */
/* A session in a child of fork: rings are written by their owners. */
#ifndef SHUNT_TRACE_CHILD_H
#define SHUNT_TRACE_CHILD_H

#include <stdbool.h>

#include "trace/ring.h"

void trace_child_prepare(void);

/*
 * At the start of whatever else uses the session: in a copy of the process that no atfork handler
 * has seen, what those would have done. Not in a hook or a signal handler.
 */
void trace_see_copy(void);

/* Whether the owner itself writes its ring, which is half full, to the file; and that. */
bool trace_owner_writes(void);
void trace_owner_write(struct trace_ring *ring);

/* There, of its first call: its file is made. */
void trace_owner_open(void);
/* From now on: there is no consumer any more. */
void trace_owners_take_over(void);
/* And all rings, where it ends (@is_end) or becomes another program. */
void trace_owner_finish(bool is_end);
/* That other program could not be executed. */
void trace_owner_go_on(void);

#endif
