/* SPDX-License-Identifier: MIT */
/* SHUNT_TRACE_ALL: the events of a ring to the session's file. Lock held, or a child of fork's own.
 */
#ifndef SHUNT_TRACE_STREAM_H
#define SHUNT_TRACE_STREAM_H

#include <stdbool.h>

#include "trace/ring.h"

void trace_stream_begin(void);                   /* what stands before all events */
bool trace_stream_ring(struct trace_ring *ring); /* whether there was something */
void trace_stream_rest(struct trace_ring *ring); /* slots that are not written yet are lost */
void trace_stream_loss(
	struct trace_ring *ring); /* what was lost, no event behind it; its thread has ended */
void trace_stream_end(void);

/* How many calls more than the last time have no return. */
void trace_tell_without_return(void);
void trace_stream_open(void); /* if that is yet to come */
/* What the rings hold now, while hooks run; @is_end: and the file is closed, for good. */
void trace_stream_finish(bool is_end);

/* The exec() that trace_stream_finish(false) was for has failed: noted by whoever called it,
 * without a lock, and written by whoever writes next. */
void trace_stream_note_failed_exec(void);
void trace_stream_go_on(void);

#endif
