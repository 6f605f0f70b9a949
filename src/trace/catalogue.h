/* SPDX-License-Identifier: MIT */
/*
 * The modules and functions of a session, as the file's chunks, in memory: they are written to each
 * file of the session, also from a signal handler and in a child of fork. It only grows while a
 * session is there.
 */
#ifndef SHUNT_TRACE_CATALOGUE_H
#define SHUNT_TRACE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace/file.h"

struct trace_block;

/* How far it has been written to some file. Zero: nothing yet. */
struct trace_cursor {
	struct trace_block *block;
	size_t at;
};

/*
 * Take in what is loaded by now; @ticks: now, since the start. Sets *@traced to the number of
 * functions that are traced. 0 or -errno. Not in a signal handler; one thread at a time.
 */
int trace_catalogue_update(uint64_t ticks, uint64_t *traced);

/*
 * The part of it that needs no lock of the dynamic linker's: modules that have gone end, so that
 * nothing that came to their place has their names. 0 or -ENOMEM.
 */
int trace_catalogue_end_gone(void);

/* Whether modules have come or gone since that was called last. */
bool trace_catalogue_is_old(void);

/*
 * In a copy of the process. Unless what other threads were at is known to be whole, nothing is
 * added until the next session where one was at this. By stores alone.
 */
void trace_catalogue_take_over(bool is_whole);

/* Begin anew: what is noted is told again. */
void trace_catalogue_clear(void);

/* What is behind the cursor. 0 or the file's error. Async-signal-safe. */
int trace_catalogue_write(struct trace_file *file, struct trace_cursor *cursor);

/* One chunk to the catalogue. 0 or -ENOMEM. */
int trace_catalogue_add(enum trace_chunk_type type, const void *what, size_t size);

#endif
