/* SPDX-License-Identifier: MIT */
/* The chunks that begin and end a file. Async-signal-safe: no lock. */
#ifndef SHUNT_TRACE_CHUNKS_H
#define SHUNT_TRACE_CHUNKS_H

#include <stdint.h>

#include "trace/catalogue.h"
#include "trace/file.h"
#include "trace/ring.h"

/* Of a chunk. Where a file is cut off, or the disk is full, the last one may have to go. */
enum { TRACE_CHUNK_EVENTS_MAX = 1 << 12 };

void trace_write_head(struct trace_file *file, struct trace_cursor *cursor);
void trace_write_thread(struct trace_file *file, struct trace_ring *ring, uint64_t started);
/* Once more, where it has another name than the file says: the last one counts. */
void trace_write_new_name(struct trace_file *file, struct trace_ring *ring);
/* Where the thread of @ring has ended; else nothing. */
void trace_write_thread_end(struct trace_file *file, const struct trace_ring *ring);
/* The process is about to become another program. */
void trace_write_exec(struct trace_file *file);
void trace_write_exec_failed(struct trace_file *file);
void trace_write_clock(struct trace_file *file);
void trace_write_end(struct trace_file *file, uint64_t events, uint64_t lost);

/* Calls of the session whose returns are not recorded. Async-signal-safe. */
uint64_t trace_without_return(void);

#endif
