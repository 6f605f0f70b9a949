/* SPDX-License-Identifier: MIT */
/* What a file of the recorder begins and ends with. By system calls alone, no lock. */
#include <errno.h>
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

/* As the kernel has it. False: the thread has ended, or there is no /proc. */
static bool read_name(char *name, size_t size, const struct trace_ring *ring)
{
	char path[64];
	long fd, n = 0;

	if (atomic_load(&ring->left) == ring->thread)
		return false;
	task_path(path, ring->tid);
	fd = shunt_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	n = shunt_syscall(SYS_read, fd, (long)name, (long)size - 1, 0);
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	if (n <= 0)
		return false;
	name[name[n - 1] == '\n' ? n - 1 : n] = '\0';
	return true;
}

/*
 * ring->told as it is now, or as it is known to have been last. Whether that is another one: of a
 * thread that gave itself a name and ended before anyone looked, by @named alone.
 */
static bool look_at_name(struct trace_ring *ring)
{
	/* Pairs with the release in names.c. */
	uint32_t named = atomic_load_explicit(&ring->named, memory_order_acquire);
	bool is_other = false;
	char name[32] = "";
	size_t n = 0;

	if (!read_name(name, sizeof(name), ring)) {
		if (ring->is_told && ring->named_told == named)
			return false;
		(void)append(name, ring->name);
	}
	ring->named_told = named;
	do {
		is_other |= ring->told[n] != name[n];
		ring->told[n] = name[n];
	} while (name[n++] && n < sizeof(ring->told) - 1);
	return is_other;
}

static void write_thread(struct trace_file *file, const struct trace_ring *ring, uint64_t started)
{
	struct trace_thread thread = {.id = ring->thread,
				      .tid = (uint32_t)ring->tid,
				      .pid = trace_session.head.pid,
				      .started = started};
	char name[sizeof(ring->told)] = "";
	struct iovec parts[2] = {{&thread, sizeof(thread)}, {name, append(name, ring->told) + 1}};

	(void)trace_file_chunk(file, TRACE_CHUNK_THREAD, parts, 2);
}

void trace_write_new_name(struct trace_file *file, struct trace_ring *ring)
{
	if (look_at_name(ring))
		write_thread(file, ring, ring->started);
}

void trace_write_thread(struct trace_file *file, struct trace_ring *ring, uint64_t started)
{
	(void)look_at_name(ring);
	write_thread(file, ring, started);
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

static void write_exec(struct trace_file *file, enum trace_chunk_type type)
{
	struct trace_exec exec = {trace_now()};
	struct iovec part = {&exec, sizeof(exec)};

	(void)trace_file_chunk(file, type, &part, 1);
}

void trace_write_exec(struct trace_file *file)
{
	trace_write_clock(file);
	write_exec(file, TRACE_CHUNK_EXEC);
}

void trace_write_exec_failed(struct trace_file *file)
{
	write_exec(file, TRACE_CHUNK_EXEC_FAILED);
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
	/* Where it may not be longer there may be something behind it; and a save to what is held
	 * has no end where it has failed: by that others tell that it is whole. */
	if (file->error && !file->is_borrowed && trace_file_is_there(file))
		trace_full_end(file, end);
}
