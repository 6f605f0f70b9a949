/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "linux/base/syscall.h"
#include "trace/clock.h"
#include "trace/full.h"
#include "trace/state.h"
#include "trace/write.h"

/* Chunks without filling. The first one is written as soon as it is known, the others at the end.
 */
struct last_chunks {
	struct trace_chunk failure_head;
	struct trace_failure failure;
	struct trace_chunk clock_head;
	struct trace_clock clock;
	struct trace_chunk end_head;
	struct trace_end end;
};
enum {
	HEAD_MARKS = 2, /* the header, the session: of those all the others are */
	FAILURE_SIZE = sizeof(struct trace_chunk) + sizeof(struct trace_failure),
	EVENTS_HEAD = sizeof(struct trace_chunk) + sizeof(struct trace_events)
};

_Static_assert(sizeof(struct last_chunks) == FAILURE_SIZE + 2 * sizeof(struct trace_chunk) +
						     sizeof(struct trace_clock) +
						     sizeof(struct trace_end),
	       "chunks one behind the other");

static void say(struct trace_chunk *chunk, enum trace_chunk_type type, const void *what,
		size_t size)
{
	chunk->type = type;
	chunk->size = size;
	chunk->crc = trace_crc(0, what, size);
}

static void fill(struct last_chunks *last, const struct trace_file *file,
		 const struct trace_end *end)
{
	last->failure.ticks = file->failed_at;
	last->failure.error = (uint32_t)-file->error;
	last->failure.reserved = 0;
	last->clock = trace_clock_read((enum trace_clock_source)trace_session.head.clock);
	last->clock.ticks -= trace_session.head.start_ticks;
	last->end = *end;
	say(&last->failure_head, TRACE_CHUNK_FAILURE, &last->failure, sizeof(last->failure));
	say(&last->clock_head, TRACE_CHUNK_CLOCK, &last->clock, sizeof(last->clock));
	say(&last->end_head, TRACE_CHUNK_END, &last->end, sizeof(last->end));
}

/* Where the whole chunks end, as far as it is longer. */
static bool cut(const struct trace_file *file, uint64_t size)
{
	return !shunt_syscall(SYS_ftruncate, file->fd, (long)(file->start + size), 0, 0) &&
	       shunt_syscall(SYS_lseek, file->fd, (long)(file->start + size), SEEK_SET, 0) >= 0;
}

/*
 * Whether it may be cut: it has its whole chunks and from @least to @most bytes behind them. One
 * that was opened by its path is this session's, whatever stands there.
 */
static bool is_file(const struct trace_file *file, uint64_t least, uint64_t most)
{
	struct stat st = {0};
	uint64_t whole = file->start + file->size;

	return file->fd >= 0 && !shunt_syscall(SYS_fstat, file->fd, (long)&st, 0, 0) &&
	       S_ISREG(st.st_mode) && (uint64_t)st.st_size >= whole + least &&
	       (file->path[0] || (uint64_t)st.st_size <= whole + most);
}

/* Of the chunk that did not fit, as many events as do beside the last chunks. */
static void keep_events(struct trace_file *file, const struct iovec *parts, uint64_t done)
{
	const uint64_t beside = EVENTS_HEAD + sizeof(struct last_chunks);
	uint64_t n = done > beside ? (done - beside) / sizeof(struct trace_event) : 0;
	struct trace_events head = *(const struct trace_events *)parts[0].iov_base;
	struct trace_chunk chunk;
	struct iovec all[3] = {
		{&chunk, sizeof(chunk)}, {&head, sizeof(head)}, {parts[1].iov_base, 0}};

	if (!n || n >= head.count)
		return;
	head.count = (uint32_t)n;
	all[2].iov_len = n * sizeof(struct trace_event);
	say(&chunk, TRACE_CHUNK_EVENTS, &head, sizeof(head));
	chunk.crc = trace_crc(chunk.crc, all[2].iov_base, all[2].iov_len);
	chunk.size += all[2].iov_len;
	if (trace_file_write(file, all, 3, &done)) {
		(void)cut(file, file->size);
		return;
	}
	trace_file_added(file, EVENTS_HEAD + n * sizeof(struct trace_event), n);
}

static bool put(const struct trace_file *file, struct last_chunks *last, size_t from,
		uint64_t *done)
{
	struct iovec part = {(char *)last + from, sizeof(*last) - from};

	return !trace_file_write(file, &part, 1, done);
}

/*
 * Over the last chunks that are long enough, with @more bytes that fit behind them: what is
 * allocated is there. They stay if that is refused.
 */
static bool put_over(struct trace_file *file, struct last_chunks *last, uint64_t more)
{
	long flags = shunt_syscall(SYS_fcntl, file->fd, F_GETFL, 0, 0);
	const struct trace_mark *mark;
	unsigned i = file->nr_marks, least;
	uint64_t done = 0;

	least = i > TRACE_MARKS + HEAD_MARKS ? i - TRACE_MARKS : HEAD_MARKS;
	do {
		if (i-- <= least || flags < 0 || flags & O_APPEND)
			return false;
		mark = &file->marks[i % TRACE_MARKS];
	} while (file->size - mark->size + more < sizeof(*last));
	if (shunt_syscall(SYS_lseek, file->fd, (long)(file->start + mark->size), SEEK_SET, 0) < 0)
		return false;
	if (!put(file, last, 0, &done) && !done)
		return false;
	file->size = mark->size;
	file->events = mark->events;
	file->nr_marks = i;
	return done == sizeof(*last);
}

static bool is_for_room(int error)
{
	return error == -EFBIG || error == -ENOSPC || error == -EDQUOT;
}

/* All of it, for the room; then no more than the first: the others are those of the end. */
static void tell_failure(struct trace_file *file)
{
	struct trace_end none = {0, 0, 0, 0};
	struct last_chunks last;
	uint64_t done = 0;

	file->failed_at = trace_now();
	fill(&last, file, &none);
	file->tells_failure = put(file, &last, 0, &done);
	if (!file->tells_failure && is_for_room(file->error) && cut(file, file->size))
		file->tells_failure = put_over(file, &last, done);
	if (file->tells_failure)
		file->size += FAILURE_SIZE;
	(void)cut(file, file->size);
}

void trace_full_keep(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     uint64_t done)
{
	if (!is_file(file, done, done) || !cut(file, file->size) || file->nr_marks < HEAD_MARKS)
		return;
	if (type == TRACE_CHUNK_EVENTS)
		keep_events(file, parts, done);
	tell_failure(file);
}

void trace_full_note(const struct trace_file *held, int error)
{
	struct trace_failure failure = {.ticks = trace_now(), .error = (uint32_t)-error};
	struct trace_chunk head;
	struct iovec parts[2] = {{&head, sizeof(head)}, {&failure, sizeof(failure)}};

	if (!error || !held->whole || held->fd < 0)
		return;
	say(&head, TRACE_CHUNK_FAILURE, &failure, sizeof(failure));
	if (shunt_syscall(SYS_lseek, held->fd, (long)held->whole, SEEK_SET, 0) < 0 ||
	    trace_file_write(held, parts, 2, &(uint64_t){0}))
		(void)shunt_syscall(SYS_ftruncate, held->fd, (long)held->whole, 0, 0);
}

void trace_full_end(struct trace_file *file, struct trace_end end)
{
	size_t from = file->tells_failure ? FAILURE_SIZE : 0;
	struct last_chunks last;
	uint64_t done = 0;

	if (!is_file(file, 0, sizeof(last)) || !cut(file, file->size))
		return;
	if (end.events > file->events) { /* given up since they were counted */
		end.lost += end.events - file->events;
		end.events = file->events;
	}
	fill(&last, file, &end);
	if (!put(file, &last, from, &done))
		(void)cut(file, file->size);
}
