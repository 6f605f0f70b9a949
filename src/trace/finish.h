/* SPDX-License-Identifier: MIT */
/*
 * What the rings hold is written, because this process is about to be another program, or
 * (@is_end) to end.
 */
#ifndef SHUNT_TRACE_FINISH_H
#define SHUNT_TRACE_FINISH_H

#include <stdbool.h>

void trace_finish(bool is_end); /* async-signal-safe */

/*
 * Around a system call that executes another program: what signal handlers have called meanwhile is
 * written as well, and the file says where it has failed and the process goes on.
 * Async-signal-safe.
 */
void trace_exec_begin(void);
void trace_exec_failed(void);

/*
 * Before the flight recorder is saved: a copy of the process is seen to be one, and modules that
 * have gone are told, by the consumer, as far as that can be had in 2 seconds. Async-signal-safe.
 */
void trace_finish_names(void);

/*
 * The session's file is opened, if that is yet to come, and stays so: of the flight recorder, with
 * what it keeps now.
 */
void trace_open_now(void);

/* The consumer's side: whether somebody waits for it; and it is done. */
bool trace_finish_is_wanted(void);
void trace_finish_serve(void);

#endif
