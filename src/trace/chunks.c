/* SPDX-License-Identifier: MIT */
/* What a file of the recorder begins and ends with. By system calls alone, no lock. */
#include <fcntl.h>

#include "trace/catalogue.h"
#include "trace/chunks.h"
#include "trace/clock.h"
#include "trace/file.h"
#include "trace/full.h"
#include "trace/ring.h"
#include "trace/state.h"

static size_t append(char *to, const char *from)
{
	size_t n = 0;

	for (; from[n]; n++)
		((volatile char *)to)[n] = from[n];
	return n;
}

/* "/proc/self/task/TID/comm" */
static void task_path(char *path, int32_t tid)
{
	static const char before[] = "/proc/self/task/", behind[] = "/comm";
	char digits[12] = {0};
	size_t n = 0, at = append(path, before);

	for (uint32_t left = (uint32_t)tid; left || !n; left /= 10)
		digits[n++] = (char)('0' + left % 10);
	while (n)
		path[at++] = digits[--n];
	path[at + append(path + at, behind)] = '\0';
}

/* As it is now; where the thread is gone, as it is known to have been. With the NUL. */
static size_t task_name(char *name, size_t size, const struct trace_ring *ring)
{
	char path[64];
	long fd, n = 0;

	task_path(path, ring->tid);
	fd = shunt_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		n = shunt_syscall(SYS_read, fd, (long)name, (long)size - 1, 0);
		(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	}
	if (n <= 0)
		return append(name, ring->name) + 1;
	if (n && name[n - 1] == '\n')
		n--;
	name[n] = '\0';
	return (size_t)n + 1;
}

void trace_write_thread(struct trace_file *file, const struct trace_ring *ring, uint64_t started)
{
	struct trace_thread thread = {.id = ring->thread,
				      .tid = (uint32_t)ring->tid,
				      .pid = trace_session.head.pid,
				      .started = started};
	char name[32] = "";
	struct iovec parts[2] = {{&thread, sizeof(thread)},
				 {name, task_name(name, sizeof(name), ring)}};

	(void)trace_file_chunk(file, TRACE_CHUNK_THREAD, parts, 2);
	if (trace_shape.is_flight)
		trace_write_thread_end(file, ring);
}

void trace_write_thread_end(struct trace_file *file, const struct trace_ring *ring)
{
	struct trace_thread_end end = {.thread = ring->thread, .alive = atomic_load(&ring->alive)};
	struct iovec part = {&end, sizeof(end)};

	if (atomic_load(&ring->state) != TRACE_RING_ENDED && !trace_ring_has_ended(ring))
		return;
	end.ended = trace_now();
	(void)trace_file_chunk(file, TRACE_CHUNK_THREAD_END, &part, 1);
}

void trace_write_exec(struct trace_file *file)
{
	struct trace_exec exec = {trace_now()};
	struct iovec part = {&exec, sizeof(exec)};

	trace_write_clock(file);
	(void)trace_file_chunk(file, TRACE_CHUNK_EXEC, &part, 1);
}

static void write_reading(struct trace_file *file, struct trace_clock reading)
{
	struct iovec part = {&reading, sizeof(reading)};

	reading.ticks -= trace_session.head.start_ticks;
	(void)trace_file_chunk(file, TRACE_CHUNK_CLOCK, &part, 1);
}

void trace_write_clock(struct trace_file *file)
{
	write_reading(file, trace_clock_read((enum trace_clock_source)trace_session.head.clock));
}

void trace_write_head(struct trace_file *file, struct trace_cursor *cursor)
{
	struct trace_session_state *s = &trace_session;
	struct iovec parts[2] = {{&s->head, sizeof(s->head)}, {s->command, s->command_size}};

	file->keep = trace_full_keep;
	(void)trace_file_chunk(file, TRACE_CHUNK_SESSION, parts, 2);
	write_reading(file, s->first);
	write_reading(file, s->second);
	(void)trace_catalogue_write(file, cursor);
}

uint64_t trace_without_return(void)
{
	const struct trace_totals *totals = &trace_session.totals;
	uint64_t all = totals->no_return ? totals->no_return : shunt_returns_missed();

	return all - totals->no_return_before;
}

void trace_write_end(struct trace_file *file, uint64_t events, uint64_t lost)
{
	struct trace_end end = {trace_now(), events, lost + atomic_load(&trace_lost_without_ring),
				trace_without_return()};
	struct iovec part = {&end, sizeof(end)};

	trace_write_clock(file);
	(void)trace_file_chunk(file, TRACE_CHUNK_END, &part, 1);
	if (file->error)
		trace_full_end(file, end);
}
