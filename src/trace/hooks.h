/* SPDX-License-Identifier: MIT */
/* What the engine calls, of <shunt/ftrace.h>'s raw mode: one pair for each kind of session. */
#ifndef SHUNT_TRACE_HOOKS_H
#define SHUNT_TRACE_HOOKS_H

#include <stdbool.h>

#include "core/ftrace_raw.h"
#include "trace/ring.h"

struct trace_hooks {
	void (*entry)(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
	void (*ret)(uintptr_t ip, uintptr_t sp);
	bool is_sparing; /* core/ftrace_raw.h */
};

/*
 * trace_hooks.S of a CPU that has it (SHUNT_HAS_FAST_HOOKS): the two of ordinary sessions; and what they call where they do not go
 * on.
 */
void trace_fast_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
void trace_fast_return(uintptr_t func, uintptr_t sp);
void trace_slow_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how);
void trace_slow_return(uintptr_t func, uintptr_t sp);

/* For this clock, with or without min_ns. */
const struct trace_hooks *trace_hooks_for(enum trace_clock_source clock, bool has_min);

/*
 * Entries that still wait for the end of a call that by now has lasted for min_ns go into the ring.
 * No hook runs on its thread.
 */
void trace_flush_pending(struct trace_ring *ring, uint64_t now);

#endif
