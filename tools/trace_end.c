/* SPDX-License-Identifier: MIT */
#include "trace_end.h"

#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/format.h"

/* The last @size bytes. */
static bool read_last(int fd, void *last, size_t size)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > (off_t)size &&
	       pread(fd, last, size, st.st_size - (off_t)size) == (ssize_t)size;
}

bool trace_words_has_end(int fd)
{
	struct {
		struct trace_chunk chunk;
		struct trace_end end;
	} last;

	return read_last(fd, &last, sizeof(last)) && last.chunk.type == TRACE_CHUNK_END &&
	       last.chunk.size == sizeof(last.end);
}

static int error_in(const struct trace_chunk *chunk, const struct trace_failure *failure)
{
	return chunk->type == TRACE_CHUNK_FAILURE && chunk->size == sizeof(*failure)
		       ? (int)failure->error
		       : 0;
}

int trace_words_failure(int fd)
{
	struct {
		struct trace_chunk failure_head;
		struct trace_failure failure;
		struct trace_chunk clock_head;
		struct trace_clock clock;
		struct trace_chunk end_head;
		struct trace_end end;
	} last;
	size_t at = offsetof(typeof(last), clock_head);

	if (trace_words_has_end(fd))
		return read_last(fd, &last, sizeof(last)) &&
				       last.clock_head.type == TRACE_CHUNK_CLOCK
			       ? error_in(&last.failure_head, &last.failure)
			       : 0;
	return read_last(fd, &last, at) ? error_in(&last.failure_head, &last.failure) : 0;
}
