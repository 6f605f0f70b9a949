/* SPDX-License-Identifier: MIT */
/* Where a traced command is recorded to, and what stands there before its session has begun. */
#ifndef SHUNT_TOOLS_TRACE_PLACE_H
#define SHUNT_TOOLS_TRACE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct trace_place {
	const char *file;      /* the caller's */
	char *earlier;         /* where the last session's file is meanwhile; NULL: there is none */
	struct timespec since; /* CLOCK_REALTIME_COARSE, as times of files */
	bool is_save; /* the session is written when it is saved, and counts when that is whole */
	const char *refused; /* by the folder, where trace_place_take() has failed for that */
};

/* Absolute, of malloc(), because the command may change its folder; NULL: no memory. */
char *trace_place_absolute(const char *file);

/*
 * Make way for a session at *@file, which becomes what a link there leads to. What cannot be
 * written is known now, before the command runs. 0 or -errno.
 */
int trace_place_take(struct trace_place *place, char **file);
void trace_place_complain(const struct trace_place *place, const char *file, int error);

/* What stands at the file. */
enum trace_place_state {
	TRACE_PLACE_NOTHING, /* nothing, or what a session begins with, and not all of that */
	TRACE_PLACE_BEGUN,   /* a session: what it is of is there whole */
	TRACE_PLACE_OTHER,   /* no regular file, or not a session's */
};
enum trace_place_state trace_place_look(const char *file);

/* Whether somebody has it open for writing, as far as the kernel tells who asks. */
bool trace_place_is_written(const char *file);

/* What has no whole beginning goes, unless somebody still writes to it. */
void trace_place_remove(const char *file);

/* While it runs: what was there goes if a session's beginning, or a whole save, is there now.
 * Again: nothing. */
void trace_place_settle(struct trace_place *place);

/*
 * At the end: files of other processes that have begun none go, as the file itself does; where one
 * was killed in the middle of a save, or has no end, that is said. @told: of this file the caller
 * says it; may be NULL.
 */
void trace_place_sweep(const struct trace_place *place, const char *told);

/*
 * At the end: the same, or what was there is there again; a file that has nothing whole goes,
 * unless somebody still writes to it. Returns whether there is something new; else @left is what
 * there is, in words. Again: the same.
 */
bool trace_place_end(struct trace_place *place, const char *file, char *left, size_t size);

#endif
