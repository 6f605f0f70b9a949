/* SPDX-License-Identifier: MIT */
/* The thread that empties the rings, and looks after them. */
#ifndef SHUNT_TRACE_CONSUMER_H
#define SHUNT_TRACE_CONSUMER_H

#include <stdbool.h>

int trace_consumer_start(void); /* 0 or -errno */
void trace_consumer_stop(void);
/* In the middle of a session. False: it waits for somebody, a pipe's reader for instance. */
bool trace_consumer_try_stop(void);

/* For the agent: how many threads of this process are the recorder's. */
__attribute__((visibility("default"))) unsigned shunt_trace_threads(void);

#endif
