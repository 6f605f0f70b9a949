/* SPDX-License-Identifier: MIT */
/* The session's thread is away for as long as the program's only thread makes a call. */
#ifndef SHUNT_TRACE_PAUSE_H
#define SHUNT_TRACE_PAUSE_H

#include <stdbool.h>

/* Before a call that the kernel refuses to a process of several threads. True: resume. */
bool trace_pause(void);
/* Before one that the C library has each thread make: where they have not the same rights. */
bool trace_pause_if_unequal(void);
void trace_resume(void);

#endif
