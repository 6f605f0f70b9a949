/* SPDX-License-Identifier: MIT */
/* How much a file of a session has, by the heads of its chunks alone: however long it is. */
#ifndef SHUNT_TOOLS_TRACE_TALLY_H
#define SHUNT_TOOLS_TRACE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

struct trace_tally {
	uint64_t events, lost, no_return, threads;
	bool ended;                   /* else what it had been told of no_return is not known */
	bool at_exec, is_past_exec;   /* as in struct trace_file */
	bool is_last, is_before_exec; /* a save at the end of the process, or before an exec() */
	int failure;                  /* errno: why no more was written; 0: nothing is said */
};

/* Of the file at @fd, as far as its chunks are whole. */
void trace_tally(int fd, struct trace_tally *tally);

#endif
