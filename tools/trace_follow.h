/* SPDX-License-Identifier: MIT */
/* The files that a command's processes write: FILE, and FILE.PID of each further one. */
#ifndef SHUNT_TOOLS_TRACE_FOLLOW_H
#define SHUNT_TOOLS_TRACE_FOLLOW_H

#include <stdbool.h>
#include <time.h>

#include "trace_live.h"

struct follow {
	const char *file; /* absolute */
	bool keeps;
	struct timespec since;     /* older files are another session's */
	struct array lives, names; /* of struct live, and the paths of their files */
};

void follow_begin(struct follow *follow, const char *file, bool keeps);
/* Files that have come, and what has been written to them. A file that is bad is said and left. */
void follow_read(struct follow *follow);
void follow_end(struct follow *follow);

/* Away with @file's folder, which was made for it, and all that is in it. */
void follow_remove(const char *file);

static inline struct live *follow_lives(const struct follow *follow)
{
	return follow->lives.data;
}

#endif
