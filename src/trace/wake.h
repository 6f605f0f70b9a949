/* SPDX-License-Identifier: MIT */
/* The sleep of the consumer (consumer.c), and what ends it. */
#ifndef SHUNT_TRACE_WAKE_H
#define SHUNT_TRACE_WAKE_H

/*
 * Called where a ring is half full, and where a process ends: async-signal-safe, general registers
 * alone.
 */
void trace_wake_consumer(void);

/*
 * The consumer's: it is going to sleep, and looks at the rings once more before it does, so that
 * who fills one from now on wakes it; and the sleep, of 10 ms at most.
 */
void trace_sleep_begin(void);
void trace_sleep(void);

#endif
