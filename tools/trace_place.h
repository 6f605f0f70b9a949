/* SPDX-License-Identifier: MIT */
/* Where a traced command is recorded to, and what stands there before its session has begun. */
#ifndef SHUNT_TOOLS_TRACE_PLACE_H
#define SHUNT_TOOLS_TRACE_PLACE_H

#include <stdbool.h>

struct trace_place {
	const char *file; /* the caller's */
	char *earlier;    /* where the last session's file is meanwhile; NULL: there is none */
};

/* Absolute, of malloc(), because the command may change its folder; NULL: no memory. */
char *trace_place_absolute(const char *file);

/*
 * Make way for a session at *@file, which becomes what a link there leads to. What cannot be
 * written is known now, before the command runs. 0 or -errno.
 */
int trace_place_take(struct trace_place *place, char **file);

/*
 * What was there goes if a session has begun to be written, and is there again if none has. Again:
 * nothing.
 */
void trace_place_settle(struct trace_place *place, bool has_begun);

#endif
