/* SPDX-License-Identifier: MIT */
/*
 * A file of all that the rings hold, while their owners go on. In a signal handler too: system
 * calls alone, no lock. An event that is overwritten while it is copied is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "trace/catalogue.h"
#include "trace/chunks.h"
#include "trace/file.h"
#include "trace/full.h"
#include "trace/replace.h"
#include "trace/ring.h"
#include "trace/snapshot.h"
#include "trace/state.h"
#include "trace/tell.h"

/* The words of an event that was not changed between; false: it was, or it is not there yet. */
static bool copy_slot(struct trace_event *to, const struct trace_slot *from)
{
	/* Pairs with the stores in hooks.c: word 1 is 0 while they are made. */
	uint64_t word1 = atomic_load_explicit(&from->word[1], memory_order_acquire);

	to->word[0] = atomic_load_explicit(&from->word[0], memory_order_acquire);
	to->word[1] = word1;
	return word1 && word1 != TRACE_LOST_MARK &&
	       atomic_load_explicit(&from->word[1], memory_order_relaxed) == word1;
}

struct copy {
	struct trace_event *events; /* as many as the ring has slots */
	uint64_t first, n;
};

/*
 * The events up to the head, in order. Those that were overwritten meanwhile are dropped, and so is
 * what a claimed slot still holds from the last time round: it is older than all others.
 */
static void copy_ring(struct copy *copy, const struct trace_ring *ring)
{
	uint64_t size = trace_ring_size(ring), head = atomic_load(&ring->head), after;
	uint64_t from = head > size ? head - size : 0, oldest = 0, n = 0;

	if (!trace_shape.is_flight)
		from = atomic_load(&ring->tail);
	copy->first = from;
	for (uint64_t i = from; i < head; i++)
		if (!copy_slot(&copy->events[i - from], &ring->slots[i & ring->mask]))
			copy->events[i - from].word[1] = 0;
	after = atomic_load_explicit(&ring->head, memory_order_acquire);
	if (trace_shape.is_flight && after > size + from)
		copy->first = after - size;
	for (uint64_t i = copy->first; i < head; i++) {
		struct trace_event event = copy->events[i - from];
		uint64_t time = event.word[0] >> 15;

		if (!event.word[1])
			continue;
		if (!oldest)
			oldest = time;
		if (time >= oldest || oldest - time > 1ull << (TRACE_TIME_BITS - 1))
			copy->events[n++] = event;
	}
	copy->n = n;
}

static void write_copy(struct trace_file *file, const struct copy *copy, struct trace_ring *ring)
{
	if (!copy->n)
		return;
	trace_write_thread(file, ring, copy->events[0].word[0] >> 15);
	for (uint64_t at = 0, n; at < copy->n; at += n) {
		struct trace_events head = {.thread = ring->thread};
		struct iovec parts[2] = {{&head, sizeof(head)}, {&copy->events[at], 0}};

		n = copy->n - at;
		n = n < TRACE_CHUNK_EVENTS_MAX ? n : TRACE_CHUNK_EVENTS_MAX;
		head.count = (uint32_t)n;
		parts[1].iov_len = n * sizeof(struct trace_event);
		(void)trace_file_chunk(file, TRACE_CHUNK_EVENTS, parts, 2);
	}
}

static bool has_events(const struct trace_ring *ring)
{
	uint32_t state = atomic_load(&ring->state);

	return ring->is_ready && (state == TRACE_RING_OWNED || state == TRACE_RING_ENDED);
}

/* How many there are to be written. */
static uint64_t write_rings(struct trace_file *file, struct trace_event *room)
{
	uint64_t events = 0;

	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		struct copy copy = {.events = room};

		if (!has_events(ring))
			continue;
		copy_ring(&copy, ring);
		write_copy(file, &copy, ring);
		events += copy.n;
	}
	return events;
}

void trace_count_rings(uint64_t *events, uint64_t *lost)
{
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		uint64_t head = atomic_load(&ring->head), tail = atomic_load(&ring->tail);

		if (!has_events(ring))
			continue;
		/* Below zero where the owner, in a child of fork(), has emptied it meanwhile: the
		 * total, which is read behind this, has those, and the sum is right. */
		*events += trace_shape.is_flight ? head : head - tail;
		*lost += ring->lost_known + atomic_load(&ring->lost);
	}
}

/* A session in which nothing was called has no file. */
static bool has_recorded(void)
{
	uint64_t events = trace_session.totals.events, lost = atomic_load(&trace_lost_without_ring);

	trace_count_rings(&events, &lost);
	return events || lost;
}

static void write_contents(struct trace_file *file, struct trace_event *room)
{
	struct trace_cursor cursor = {0};
	uint64_t events;

	trace_write_head(file, &cursor);
	events = write_rings(file, room);
	(void)trace_catalogue_write(file, &cursor);
	trace_write_end(file, file->events, events - file->events);
}

/* Before the one that is whole in @held, where there is room, or behind it. */
static void write_within(struct trace_file *file, struct trace_file *held, struct trace_event *room)
{
	bool behind = false;

	do {
		if (!trace_file_rewrite(file, held, behind))
			write_contents(file, room);
		behind = !behind;
	} while (file->error == -EOVERFLOW && file->limit && behind);
	(void)trace_file_lead(file, held);
}

/* @file stays open for the next save. */
static void hold(const struct trace_file *file, bool is_empty)
{
	struct trace_file *held = &trace_session.held;

	if (trace_file_hold(held, file->fd) || is_empty)
		return;
	held->start = file->start ? file->start : sizeof(struct trace_header);
	held->whole = file->start + file->size;
}

/* Where nothing can be put in the place of what is there. */
static void write_in_place(struct trace_file *file, const char *path, struct trace_event *room,
			   bool holds)
{
	static struct trace_file there;
	int error = trace_file_open_earlier(&there, path);

	if (error) {
		file->error = error == -EEXIST ? file->error : error;
		return;
	}
	write_within(file, &there, room);
	if (holds && !file->error)
		hold(file, false);
	trace_file_close_earlier(&there, file->error);
	file->fd = -1;
}

static void write_to(struct trace_file *file, const char *path, int fd, enum trace_how how,
		     struct trace_event *room, bool holds)
{
	/* What is held for later, and has nothing yet, is a header: whoever looks removes that. */
	bool is_empty = holds && !has_recorded();
	int error = path ? trace_file_replace(file, path, how) : trace_file_adopt(file, fd);

	if (!error && !is_empty)
		write_contents(file, room);
	if (holds && !file->error)
		hold(file, is_empty);
	(void)trace_file_close_replaced(file);
	if (file->is_for_place && !is_empty)
		write_in_place(file, path, room, holds);
}

/* @path NULL: to @fd, or where that is -1 to what is held. */
static int write_snapshot(const char *path, int fd, enum trace_how how, bool holds)
{
	static struct trace_file file; /* a handler's stack may be small */
	long room = shunt_syscall6(SYS_mmap, 0, (long)trace_shape.bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room < 0 && room >= -4095)
		return (int)room;
	if (!path && fd < 0) {
		write_within(&file, &trace_session.held, (struct trace_event *)room);
		trace_full_note(&trace_session.held, file.error);
	} else {
		write_to(&file, path, fd, how, (struct trace_event *)room, holds);
	}
	(void)shunt_syscall(SYS_munmap, room, (long)trace_shape.bytes, 0, 0);
	return file.error;
}

int trace_snapshot(const char *path, int fd)
{
	return write_snapshot(path, fd, TRACE_OPEN_OVER, false);
}

/* Not in a child of vfork(): what is kept is the parent's. */
int trace_snapshot_held(void)
{
	if (trace_session.head.pid != (uint32_t)shunt_own_pid())
		return 0;
	return write_snapshot(NULL, -1, TRACE_OPEN_OVER, false);
}

static int tell_saved(int err)
{
	if (err)
		trace_tell(TRACE_WORD_FAILED, err, 0, TRACE_WORD_SAVE);
	else if (has_recorded())
		trace_tell(TRACE_WORD_FILE, 0, 0, trace_session.path);
	return err;
}

static uint32_t saved_by; /* the process that has saved to its path */

/* Without a last save: the process is known not to end early. */
void trace_tell_stopped(void)
{
	if (trace_is_autostart && saved_by == trace_session.head.pid)
		trace_tell(TRACE_WORD_ENDED, 0, 0, NULL);
}

/* The first time somebody else's file is left alone; then it is this process's own. */
static int save_to_path(bool holds)
{
	static char other[TRACE_PATH_MAX];
	struct trace_session_state *s = &trace_session;
	int err;

	if (saved_by == s->head.pid && s->how == TRACE_OPEN_NEW)
		s->how = TRACE_OPEN_OVER;
	err = write_snapshot(s->path, -1, s->how, holds);
	if (err == -EEXIST && s->how == TRACE_OPEN_NEW) {
		s->how = trace_path_of_process(other);
		for (size_t i = 0; i < sizeof(other); i++)
			((volatile char *)s->path)[i] = other[i];
		err = write_snapshot(s->path, -1, s->how, holds);
	}
	saved_by = s->head.pid;
	return tell_saved(err);
}

int trace_save_by_environment(void)
{
	struct trace_session_state *s = &trace_session;

	if (!s->totals.functions || !has_recorded())
		return 0;
	return trace_file_is_held(&s->held) ? tell_saved(trace_snapshot_held())
					    : save_to_path(false);
}

int trace_hold_by_environment(void)
{
	struct trace_session_state *s = &trace_session;

	if (!s->totals.functions || trace_file_is_held(&s->held) ||
	    !trace_is_file_or_nothing(s->path))
		return 0;
	return save_to_path(true);
}
