/* SPDX-License-Identifier: MIT */
/* The formats of `shunt export`. Each writes all of @f to @out: 0, or -1 having complained. */
#ifndef SHUNT_TOOLS_EXPORT_H
#define SHUNT_TOOLS_EXPORT_H

#include <stdint.h>
#include <stdio.h>

#include "trace_file.h"

struct export
{
	struct trace_file *f;
	FILE *out;
	uint32_t tid;
};

int export_chrome(struct export *e);
int export_perfetto(struct export *e);
int export_folded(struct export *e);
int export_callgrind(struct export *e);
int export_flame(struct export *e);

/* Of track @track of a thread: a number of its own among all threads. */
static inline uint64_t export_track(uint64_t thread, uint32_t track)
{
	return (thread + 1) << 32 | track;
}

#endif
