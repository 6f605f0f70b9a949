/* SPDX-License-Identifier: MIT */
/* A file of what the rings hold now. Async-signal-safe: no lock; one at a time (save.h). */
#ifndef SHUNT_TRACE_SNAPSHOT_H
#define SHUNT_TRACE_SNAPSHOT_H

#include <stdint.h>

int trace_snapshot(const char *path, int fd); /* @path NULL: to @fd */
int trace_snapshot_held(void);                /* to trace_session.held, from its beginning */
/* The same, to the session's path or, where that is another process's, path.PID. */
int trace_save_by_environment(void);
/*
 * The same, and what it is written to stays open, for those that come behind it: the path may lead
 * nowhere then. Nothing happens where it is open already, or is no regular file.
 */
int trace_hold_by_environment(void);

/* A session by the environment is stopped, and `shunt trace` told so if anything was saved. */
void trace_tell_stopped(void);

/* Totals of the rings, besides those in trace_session.totals. */
void trace_count_rings(uint64_t *events, uint64_t *lost);

#endif
