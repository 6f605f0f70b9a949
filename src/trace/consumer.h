/* SPDX-License-Identifier: MIT */
/* The thread that empties the rings, and looks after them. */
#ifndef SHUNT_TRACE_CONSUMER_H
#define SHUNT_TRACE_CONSUMER_H

int trace_consumer_start(void); /* 0 or -errno */
void trace_consumer_stop(void);

#endif
