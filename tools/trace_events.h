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

/* What becomes of a call of a thread while another one runs its stack (trace_moves.h). */
struct moved {
	enum {
		MOVED_LEFT,    /* another thread runs the stack that ran here */
		MOVED_RETURN,  /* @entry's call has returned there */
		MOVED_TAIL,    /* by a tail call */
		MOVED_UNWOUND, /* its stack was used above it */
		MOVED_HERE, /* event @at ends a call of another thread; @entry's runs, or none's */
	} what;
	uint32_t at;    /* before this event */
	uint32_t entry; /* event that begins the call */
	uint32_t tid;   /* the thread that it returned in */
	uint64_t ticks;
};

/* Of an entry, where calls of several threads were looked at together: see thread_events.up. */
enum {
	EVENT_OWN_STACK = 1, /* it is on another stack than what it runs within */
	EVENT_RECURSIVE = 2, /* the same function is open further out, in whichever thread */
	EVENT_UNTIMED = 4,   /* its return may be lost */
	EVENT_BASE = 8,      /* trace_moves_stacks.c: the first of its stack, for calls cross */
	EVENT_LASTS = 16,    /* the same: open at the end */
	EVENT_APART = 32,    /* the same: what ran when it began went on meanwhile */
};

struct thread_events {
	struct event *events;
	/*
	 * Of an entry: the number of its return or tail call; of these: the number of their
	 * entry. TRACE_NONE: there is none.
	 */
	uint32_t *mate;
	size_t n;
	struct array gaps; /* of struct gap */
	/* The rest is of threads whose stacks other threads run, too; else NULL. */
	const uint32_t
		*up; /* of an entry: what it runs within, TRACE_NONE: nothing in this thread */
	const uint8_t *flags;      /* EVENT_ */
	const struct moved *moved; /* in order of @at */
	size_t moved_n;
};

/* Read those of @thread, without mates: 0, or -1 having complained. */
int trace_events_read(struct thread_events *t, struct trace_file *f,
		      const struct file_thread *thread);
/* The same, and mates. */
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
