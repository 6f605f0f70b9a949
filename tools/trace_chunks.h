/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TOOLS_TRACE_CHUNKS_H
#define SHUNT_TOOLS_TRACE_CHUNKS_H

#include "trace_file.h"

#define TRACE_BLOCK (1u << 20)

/*
 * Take in the chunk at @f->offset, whose head is @chunk; @block has room for TRACE_BLOCK bytes.
 * Returns 0, or -1 having complained.
 */
int trace_read_chunk(struct trace_file *f, const struct trace_chunk *chunk, char *block);

#endif
