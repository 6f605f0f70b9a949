/* SPDX-License-Identifier: MIT */
/* Saving what the flight recorder keeps, and who may not meanwhile take that away. */
#ifndef SHUNT_TRACE_SAVE_H
#define SHUNT_TRACE_SAVE_H

#include <stdbool.h>

/* To where the session is to be saved. Async-signal-safe. @is_last: the process is about to end. */
void trace_save_now(bool is_last);

/* What the last one has failed with, if no later one was whole; 0 from now on. */
int trace_save_take_error(void);

/* The same of a session by the environment, and its file stays open for the next one. */
void trace_save_and_hold(void);

/*
 * Nobody saves meanwhile. With all signals blocked, or where none saves: a handler on top would
 * wait for what it has interrupted. A save that was asked for meanwhile is made at the end.
 */
void trace_rings_hold(void);
bool trace_rings_try_hold(void);
void trace_rings_let_go(void);

/* In the child of a fork: who had them is not there. */
void trace_save_in_child(void);

/* Modules that have come and gone in the last moments. Lock held; not in a signal handler. */
void trace_take_in_modules(void);

/*
 * @path, of TRACE_PATH_MAX bytes, where it is a link to a regular file, becomes that one's own
 * name: what is made beside it, or in its place, is to stand there.
 */
void trace_follow_link(char *path);

/* Asked for by the program: to @path, or NULL: to @fd; as shunt_trace_save(). */
int trace_save_to(const char *path, int fd);

#endif
