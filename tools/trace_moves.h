/* SPDX-License-Identifier: MIT */
/*
 * Calls that begin in one thread and return in another: a coroutine that moved meanwhile. A return
 * belongs to the last entry of the same place of a stack, whichever threads run there, for an
 * address is on one stack at a time. Where events are missing that could be between them the
 * entry's call has ended, and it is not known when.
 */
#ifndef SHUNT_TOOLS_TRACE_MOVES_H
#define SHUNT_TOOLS_TRACE_MOVES_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_events.h"
#include "trace_file.h"

struct move {
	uint32_t from, to;     /* numbers of threads in the file */
	uint32_t entry, end;   /* numbers of their events */
	uint64_t start, ticks; /* of these */
	uint64_t left;         /* another thread was first seen on that stack */
	uint32_t place, kind;  /* kind of @end */
	bool is_known;         /* that @end is its return */
};

struct moves {
	struct array out; /* of struct move, in order of @from and @ticks */
	struct array in;  /* the same, in order of @to and @end */
};

/* 0, or -1 having complained. */
int trace_moves_find(struct moves *moves, struct trace_file *f);

/*
 * What is known of them to the events of thread @number: a call that moved away has its return, an
 * event of its own, among these; one whose time is not known is of the kind TRACE_CALL. 0 or -1.
 */
int trace_moves_apply(const struct moves *moves, struct thread_events *t, struct trace_file *f,
		      uint32_t number);
void trace_moves_free(struct moves *moves);

#endif
