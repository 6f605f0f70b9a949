/* SPDX-License-Identifier: MIT */
/*
 * Coroutines that move between threads. An address is on one stack at a time, whichever thread
 * runs it: so a return belongs to the last entry of its place in all threads that have been on
 * these stacks, in order of time. And what a call was made by is what is open next above it, in
 * any of them, unless the two cross: then there are two stacks.
 *
 * Threads that nothing moves between are not looked at together (trace_calls.h does it alone).
 */
#ifndef SHUNT_TOOLS_TRACE_MOVES_H
#define SHUNT_TOOLS_TRACE_MOVES_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_events.h"
#include "trace_file.h"

struct moves {
	struct array parts; /* of struct part (trace_moves_parts.h): threads that share stacks */
};

/* 0, or -1 having complained. */
int trace_moves_find(struct moves *moves, struct trace_file *f);

/*
 * What is known by then of the events of thread @number, if it shares stacks: mates, what calls run
 * within, and what becomes of them in other threads. @t is good until trace_moves_free().
 */
void trace_moves_apply(const struct moves *moves, struct thread_events *t, struct trace_file *f,
		       uint32_t number);
void trace_moves_free(struct moves *moves);

#endif
