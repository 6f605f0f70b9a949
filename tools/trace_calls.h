/* SPDX-License-Identifier: MIT */
/*
 * The calls of a thread, from its events. They are kept apart by the stack that they are on, and
 * are shown to a visitor as they ran: enter() and leave() in order of time, and properly nested on
 * each track. A track is a stack: the thread's own (0), and one for each coroutine. What runs on
 * another stack, but begins and ends within one call (a signal handler on an alternate stack), is
 * that call's.
 *
 * A file does not say where stacks are. Two calls are on different stacks if one begins within
 * the other and returns behind it; if one is above a call that has yet to return; or if
 * they are far apart.
 *
 * A function that is inlined stands at the same place as what it is inlined in, where
 * -finstrument-functions tells of it. So does what is called after a longjmp() out of a call.
 * Within a call that returns it is what returns earlier; within one that does not, what is of
 * another function, if the call would then be open at the end.
 *
 * A call that returns in another thread, because its coroutine has moved there, is this thread's;
 * what it calls there is that one's, as if nothing had called it.
 *
 * What is open at the end lasts to the end of its thread, or of the session, as far as the file
 * knows these. Of a session with min_ns the recorder leaves out what returns earlier, where calls
 * are nested; here the rest is left out, where its end is known.
 */
#ifndef SHUNT_TOOLS_TRACE_CALLS_H
#define SHUNT_TOOLS_TRACE_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_file.h"

enum call_end {
	END_RETURN,
	END_TAIL,    /* by a tail call */
	END_UNWOUND, /* by longjmp() or an exception: seen at the next event of its stack */
	END_OPEN,    /* had not ended when its thread, or the session, did: its time is a bound */
	END_UNKNOWN, /* only its entry is recorded */
};

struct call {
	uint32_t function;
	uint32_t depth; /* in the tree: 0 without a parent */
	uint32_t track;
	bool timed;     /* else only its entry is recorded, and no time is known */
	bool recursive; /* the same function is open further out on this stack */
	bool from_tail; /* the function before it on this stack has ended by a tail call of it */
	uint64_t start, self; /* ticks; self is whole when it is left */
	bool lossy; /* when it is left: events of its thread were lost while it ran, perhaps its own
		     */
	uint32_t returned_in; /* another thread, by its number; 0: its own */
	struct call *parent;
	void *data; /* the visitor's */

	/* The rest is trace_calls.c's own. */
	struct call *below;   /* the next older one on this stack */
	struct call *charged; /* whose self time is what passes now */
	struct stack *on;
	bool lasts;     /* open at the end: what stands at its place may be inlined in it */
	bool hidden;    /* shorter than the session's min_ns: visitors do not see it */
	uint32_t entry; /* number of the event that begins it */
	uint32_t place; /* the event's stack */
	uint32_t end,
		min_end; /* number of the event that ends it; the least of this and those below */
	uint32_t guests; /* stacks that run within this call */
	uint32_t gaps;   /* that its thread had before it */
};

struct trace_visitor {
	void *context;
	/* Each returns 0, or -1 having complained. All but enter and leave may be NULL. */
	int (*thread)(void *context, const struct file_thread *thread);
	int (*enter)(void *context, struct call *call);
	int (*leave)(void *context, struct call *call, uint64_t ticks, enum call_end how);
	int (*lost)(void *context, uint64_t lost, uint64_t ticks);
	/* A return without an entry; TRACE_NONE: it is not known of what. */
	int (*orphan)(void *context, uint32_t function, uint64_t ticks);
	int (*thread_end)(void *context, uint64_t ticks);
};

/* All threads, or those with the kernel's number @tid. Returns 0; -1: a visitor's, or complained.
 */
int trace_walk(struct trace_file *f, uint32_t tid, const struct trace_visitor *visitor);
#define TRACE_ALL_THREADS 0u

#endif
