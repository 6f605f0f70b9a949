/* SPDX-License-Identifier: MIT */
#include "trace_tally.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/format.h"
#include "trace_end.h"

static bool read_at(int fd, void *to, size_t size, uint64_t at)
{
	return pread(fd, to, size, (off_t)at) == (ssize_t)size;
}

static bool take_chunk(int fd, const struct trace_chunk *chunk, uint64_t at,
		       struct trace_tally *tally)
{
	struct trace_session session;
	struct trace_failure failure;
	struct trace_events events;
	struct trace_end end;

	if (chunk->type == TRACE_CHUNK_SESSION && read_at(fd, &session, sizeof(session), at)) {
		tally->is_last = session.flags & TRACE_AT_END;
		tally->is_before_exec = session.flags & TRACE_AT_EXEC;
	}
	if (chunk->type == TRACE_CHUNK_THREAD)
		tally->threads++;
	if (chunk->type == TRACE_CHUNK_EXEC || chunk->type == TRACE_CHUNK_EXEC_FAILED) {
		tally->at_exec = chunk->type == TRACE_CHUNK_EXEC;
		tally->is_past_exec = false;
	}
	if (chunk->type == TRACE_CHUNK_EVENTS && read_at(fd, &events, sizeof(events), at)) {
		tally->is_past_exec |= tally->at_exec;
		tally->at_exec = false;
		tally->events += events.count;
		tally->lost += events.lost;
	}
	if (chunk->type == TRACE_CHUNK_FAILURE && read_at(fd, &failure, sizeof(failure), at))
		tally->failure = (int)failure.error;
	if (chunk->type != TRACE_CHUNK_END || !read_at(fd, &end, sizeof(end), at))
		return chunk->type != 0;
	tally->ended = true;
	tally->events = end.events;
	tally->lost = end.lost;
	tally->no_return = end.no_return;
	return false;
}

void trace_tally(int fd, struct trace_tally *tally)
{
	struct trace_header header = {.header_size = 0};
	struct trace_chunk chunk;
	uint64_t at, size;
	struct stat st;

	*tally = (struct trace_tally){0};
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !read_at(fd, &header, sizeof(header), 0))
		return;
	size = (uint64_t)st.st_size;
	if (memcmp(header.magic, TRACE_MAGIC, sizeof(header.magic)) || header.header_size > size)
		return;
	for (at = header.header_size; size - at >= sizeof(chunk);) {
		if (!read_at(fd, &chunk, sizeof(chunk), at))
			break;
		at += sizeof(chunk);
		if (chunk.size > size - at || (-chunk.size & 7) > size - at - chunk.size ||
		    !take_chunk(fd, &chunk, at, tally))
			break;
		at += chunk.size + (-chunk.size & 7);
	}
	if (!tally->ended && at != size) {
		tally->is_past_exec |= tally->at_exec;
		tally->at_exec = false;
	}
	if (!tally->failure) /* of a save behind a whole one */
		tally->failure = trace_words_failure(fd);
}
