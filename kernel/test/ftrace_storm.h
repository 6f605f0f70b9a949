/* SPDX-License-Identifier: MIT */
/* Between ftrace_storm.c and ftrace_storm_sites.S. */
#ifndef KERNEL_FTRACE_STORM_H
#define KERNEL_FTRACE_STORM_H

#include <stdint.h>

/* One call of a traced function: how often the callbacks of each ops saw it. */
struct call;
typedef void work_fn(struct call *call);

/* Entries that straddle a cache line and a page. */
work_fn work_line, work_page;
/* One that is at times traced by nobody. */
work_fn work_bare;
/* Call @work with @flags; returns the flags behind it. */
uint64_t storm_call(work_fn *work, struct call *call, uint64_t flags);

#endif
