/* SPDX-License-Identifier: MIT */
/* Memory that chunks are made in (blocks.c): for catalogue.c. */
#ifndef SHUNT_TRACE_BLOCKS_H
#define SHUNT_TRACE_BLOCKS_H

#include <stddef.h>

#include "trace/file.h"

/*
 * Room for @size more bytes of a chunk of @type, zeroed and on a multiple of 8: it becomes part of
 * the chunk that is being made, if that is of the same type and has room; else another one is
 * begun. NULL: no memory, or more than fits into a chunk.
 */
void *trace_chunk_room(enum trace_chunk_type type, size_t size);
#define TRACE_CHUNK_ROOM ((size_t)128 << 10)

/* The chunk that is being made is whole: from now on it is written. */
void trace_chunk_end(void);

/* All are gone; nobody writes them. */
void trace_chunks_clear(void);

#endif
