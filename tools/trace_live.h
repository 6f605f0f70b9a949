/* SPDX-License-Identifier: MIT */
/*
 * What is known of a session while it is recorded: how often each function was called and how long,
 * without keeping the events. Calls are counted when they begin, their times when they end; one
 * whose return is not seen (longjmp(), lost events) has no time. What runs now is known as well.
 */
#ifndef SHUNT_TOOLS_TRACE_LIVE_H
#define SHUNT_TOOLS_TRACE_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_file.h"

struct live_counts {
	uint64_t calls, timed; /* begun; ended with a time */
	uint64_t total, self;  /* ticks, of those that are timed */
};

struct live_row {
	uint32_t function;
	struct live_counts now, before; /* before: as of live_turn() */
	uint64_t max;                   /* ticks */
	/* By live_find_running(), ticks: how long the longest of its calls that run now has; how
	 * long those that call nothing. 0: there is none. */
	uint64_t runs, waits;
};

struct live {
	struct trace_file f;
	struct array rows;    /* of struct live_row */
	struct hash numbers;  /* by function: row + 1 */
	struct array threads; /* of struct live_thread, as those of the file */
	uint64_t no_return;   /* calls whose return is not recorded, though returns are */
	bool keeps;           /* else what has been read is taken out of the file */
	uint64_t punched;
	bool is_bad; /* for its owner */
};

/* The file at @fd, which is the live's from now on. @keeps: it is to stay whole. */
void live_open(struct live *live, const char *path, int fd, bool keeps);
void live_close(struct live *live);

/* What has been written since the last time. 0, or -1 having complained. */
int live_read(struct live *live);

/*
 * Which calls run now, and have for LIVE_RUNS_MS: what is shorter may have returned, and that is
 * not read yet.
 */
enum { LIVE_RUNS_MS = 500 };
void live_find_running(struct live *live);

/* What is new is counted from now on. */
void live_turn(struct live *live);

#endif
