/* SPDX-License-Identifier: MIT */
/* Snapshots on signals, and the actions that the recorder installs for that. */
#ifndef SHUNT_TRACE_SIGNALS_H
#define SHUNT_TRACE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

#include <shunt/trace.h>

int trace_signals_start(const struct shunt_trace_options *options); /* 0 or -errno */
void trace_signals_stop(void);

/* The handler of a signal that the process is about to die of. */
bool trace_is_own_handler(const struct sigaction *action);

/* libc_sigaction.c */
int trace_sigaction(int sig, const struct sigaction *action, struct sigaction *before);

#endif
