/* SPDX-License-Identifier: MIT */
/*
 * A regular file in which writing has failed: the disk is full, a limit is reached. Of the chunk
 * that did not fit the events that did are kept, so many fewer that what the file ends with
 * fits, too: why it ends, and how many events are lost. Where there is less room than that, the
 * last chunks make it. By system calls alone.
 */
#ifndef SHUNT_TRACE_FULL_H
#define SHUNT_TRACE_FULL_H

#include <stdint.h>
#include <sys/uio.h>

#include "trace/file.h"

/* @file has its error: of a chunk of @type and @parts, @done bytes of which were written. */
void trace_full_keep(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     uint64_t done);

/* Behind a save that is whole: a later one has failed, with @error. */
void trace_full_note(const struct trace_file *held, int error);

/* What it ends with, as of now; it may be written again later, in the place of this. */
void trace_full_end(struct trace_file *file, struct trace_end end);

#endif
