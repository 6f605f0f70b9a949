/* SPDX-License-Identifier: MIT */
/* `shunt trace`: the command runs, and what its processes tell (trace/tell.h) is listened to. */
#ifndef SHUNT_TOOLS_TRACE_RUN_H
#define SHUNT_TOOLS_TRACE_RUN_H

#include <stdbool.h>

#include "trace_place.h"

struct trace_run {
	const char *file; /* absolute */
	bool has_filters; /* -F or -N */
	bool has_min;     /* --min */
	bool is_flight;
	bool has_top, keeps; /* a table; and the file, too */
	struct trace_place *place;
};

/*
 * Run it, and die of the signal that it dies of. Returns its exit status; 127 or 126 where it
 * could not be run; where it has succeeded and its session has not, 1, having complained.
 */
int trace_run(const struct trace_run *run, char **command);

#endif
