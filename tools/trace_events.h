/* SPDX-License-Identifier: MIT */
/*
 * The events of one thread: in order of time, with their functions, and each return with its entry.
 */
#ifndef SHUNT_TOOLS_TRACE_EVENTS_H
#define SHUNT_TOOLS_TRACE_EVENTS_H

#include <stdint.h>

#include "trace_file.h"

struct event {
	uint64_t ticks;
	uint32_t stack : TRACE_STACK_BITS; /* 8-byte words */
	uint32_t kind : 2;                 /* enum trace_event_kind */
	uint32_t function;                 /* TRACE_NONE: a return of it is not known which */
};

/* The event that @raw says. @last: the time of the one before, and then of this one. */
struct event trace_event_decode(struct trace_file *f, const struct trace_event *raw,
				uint64_t *last);

/* Whether @event, an entry, may be of a call that is inlined. */
static inline bool trace_may_be_inlined(const struct trace_file *f, const struct event *event)
{
	return event->function != TRACE_NONE && trace_function(f, event->function)->may_be_inlined;
}

/* @lost events are missing before event @at. */
struct gap {
	size_t at;
	uint64_t lost;
};

/* Of calls that return in another thread than they begin in (trace_moves.h). */
struct moved {
	enum { MOVED_LEFT, MOVED_RETURN, MOVED_HERE } what;
	uint32_t at; /* event: of the return, here or of a call of another thread; or the one behind
		      */
	uint32_t entry, tid; /* event that begins the call; the thread that it returns in */
	uint64_t ticks;      /* when its stack had been left, at the latest */
};

struct thread_events {
	struct event *events;
	/*
	 * Of an entry: the number of its return or tail call; of these: the number of their
	 * entry. TRACE_NONE: there is none.
	 */
	uint32_t *mate;
	size_t n;
	struct array gaps;  /* of struct gap */
	struct array moved; /* of struct moved, in order of @at */
};

/* Read those of @thread: 0, or -1 having complained. */
int trace_events_load(struct thread_events *t, struct trace_file *f,
		      const struct file_thread *thread);
/* Where the last event of @thread is behind *@ticks, by less than half of the 49 bits: its time. */
int trace_events_last(const struct trace_file *f, const struct file_thread *thread,
		      uint64_t *ticks);
/*
 * When the session ended. Where that is not said it had not, at the last event of all threads, nor
 * when the clock was read last. 0, or -1 having complained.
 */
int trace_events_end(const struct trace_file *f, uint64_t *end);
/* Whether a call that could be open at the end may have another one inlined. */
bool trace_events_may_last(const struct thread_events *t, const struct trace_file *f);
void trace_events_free(struct thread_events *t);

#endif
