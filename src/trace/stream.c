/* SPDX-License-Identifier: MIT */
/*
 * SHUNT_TRACE_ALL: from the rings to the file. Events are written from where they lie; then their
 * slots are cleared and given back.
 */
#include <errno.h>

#include "trace/auto_off.h"
#include "trace/catalogue.h"
#include "trace/chunks.h"
#include "trace/file.h"
#include "trace/ring.h"
#include "trace/state.h"
#include "trace/stream.h"
#include "trace/tell.h"

static uint64_t word1(const struct trace_ring *ring, uint64_t i)
{
	/* Pairs with the release in hooks.c: then word 0 is there as well. */
	return atomic_load_explicit(&ring->slots[i & ring->mask].word[1], memory_order_acquire);
}

/* Events from the tail on that are whole, up to the ring's end or a mark. */
static uint64_t count_ready(const struct trace_ring *ring, uint64_t tail)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire), n = 0;
	uint64_t to_wrap = trace_ring_size(ring) - (tail & ring->mask);

	while (n < to_wrap && n < TRACE_CHUNK_EVENTS_MAX && tail + n < head &&
	       word1(ring, tail + n) && word1(ring, tail + n) != TRACE_LOST_MARK)
		n++;
	return n;
}

static void give_back(struct trace_ring *ring, uint64_t tail, uint64_t n)
{
	bool has_lost;

	for (uint64_t i = 0; i < n; i++)
		atomic_store_explicit(&ring->slots[(tail + i) & ring->mask].word[1], 0,
				      memory_order_relaxed);
	atomic_store_explicit(&ring->tail, tail + n, memory_order_release);
	/* Where events were lost, its owner has a mark to make first. */
	has_lost = atomic_load_explicit(&ring->lost, memory_order_relaxed) != 0;
	atomic_store_explicit(&ring->limit, has_lost ? 0 : trace_soft_limit(ring, tail + n),
			      memory_order_release);
}

/* @n more are in the file, or lost; and what it has had to give up is lost, too. */
static void count(uint64_t n)
{
	struct trace_totals *totals = &trace_session.totals;
	uint64_t all = totals->events + totals->lost + n;

	totals->events = trace_session.file.events;
	totals->lost = all - totals->events;
}

/* Of a child, and of a session by the environment, it is made when there is something to write. */
static void open_when_needed(void)
{
	struct trace_session_state *s = &trace_session;
	static char path[TRACE_PATH_MAX];

	if (s->file.fd >= 0 || s->file.error || s->is_finished)
		return;
	/* Of a child's of fork the number may have been another process's meanwhile. */
	if (s->how == TRACE_OPEN_OWN ||
	    (trace_file_open(&s->file, s->path, s->how) == -EEXIST && s->how == TRACE_OPEN_NEW)) {
		enum trace_how how = trace_path_of_process(path);

		(void)trace_file_open(&s->file, path, how);
	}
	s->cursor = (struct trace_cursor){0};
	if (s->file.error)
		return;
	trace_stream_begin();
	/* Now it may take an earlier one's place. */
	if (!s->file.error)
		trace_tell(TRACE_WORD_FILE, 0, 0, s->file.path);
}

/* Once, as it happens: whoever waits for the process need not wait for its end. */
static void tell_failure(void)
{
	struct trace_session_state *s = &trace_session;

	if (!s->file.error || s->has_told_failure)
		return;
	s->has_told_failure = true;
	trace_tell(TRACE_WORD_FAILED, s->file.error, 0, s->file.failed_call);
}

/*
 * It said so itself, by a function that names.c stands before; or else it may have, most of all
 * soon after its first call, and each look costs three system calls.
 */
static bool may_have_new_name(struct trace_ring *ring)
{
	uint32_t n = ++ring->chunks;

	return atomic_load_explicit(&ring->named, memory_order_relaxed) != ring->named_told ||
	       n % 256 == 0 || !(n & (n - 1));
}

static void write_events(struct trace_ring *ring, const struct trace_slot *slots, uint64_t n,
			 uint64_t lost)
{
	struct trace_session_state *s = &trace_session;
	struct trace_events head = {ring->thread, (uint32_t)n, lost};
	struct iovec parts[2] = {{&head, sizeof(head)},
				 {(void *)(uintptr_t)slots, n * sizeof(*slots)}};

	open_when_needed();
	if (!ring->is_told) {
		ring->started = n ? atomic_load(&slots->word[0]) >> 15 : trace_now();
		(void)trace_catalogue_write(&s->file, &s->cursor);
		trace_write_thread(&s->file, ring, ring->started);
		ring->is_told = true;
	} else if (!s->is_finished && may_have_new_name(ring)) {
		trace_write_new_name(&s->file, ring);
	}
	if (!s->is_finished)
		(void)trace_file_chunk(&s->file, TRACE_CHUNK_EVENTS, parts, n ? 2 : 1);
	count(n);
	tell_failure();
	s->totals.lost += lost;
}

/* The patience with a slot that was claimed and is not written yet, in ticks. */
static uint64_t patience(void)
{
	return (uint64_t)(((trace_wide)TRACE_PATIENCE_NS * trace_session.rate) / 1000000000u);
}

/* Such a slot is the tail: whether it is given up. */
static bool skip_stuck(struct trace_ring *ring, uint64_t tail, uint64_t ticks)
{
	uint64_t now = trace_now() | 1;

	if (tail >= atomic_load_explicit(&ring->head, memory_order_acquire)) {
		ring->stuck = 0;
		return false;
	}
	if (!ring->stuck)
		ring->stuck = now;
	if (now - ring->stuck < ticks)
		return false;
	ring->stuck = 0;
	give_back(ring, tail, 1);
	return true;
}

/*
 * What it holds now: while it is emptied more may come, without end. A signal handler that is left
 * by longjmp() may leave a slot that nobody will write; that one is waited for by @ticks.
 */
static bool stream_ring(struct trace_ring *ring, uint64_t ticks)
{
	uint64_t lost = ring->lost_known; /* to be told before the next events */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	bool any = false;

	for (;;) {
		uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
		const struct trace_slot *slots = &ring->slots[tail & ring->mask];
		uint64_t n = count_ready(ring, tail);

		if (tail >= head)
			break;
		if (n) {
			write_events(ring, slots, n, lost);
			trace_auto_off_see(slots, n, 1);
			lost = 0;
		} else if (tail < atomic_load(&ring->head) &&
			   word1(ring, tail) == TRACE_LOST_MARK) {
			lost += atomic_load_explicit(&slots->word[0], memory_order_relaxed);
			n = 1;
		} else if (skip_stuck(ring, tail, ticks)) {
			lost++;
			continue;
		} else {
			break;
		}
		give_back(ring, tail, n);
		ring->stuck = 0;
		any = true;
	}
	ring->lost_known = lost;
	return any;
}

bool trace_stream_ring(struct trace_ring *ring)
{
	return stream_ring(ring, patience());
}

void trace_stream_rest(struct trace_ring *ring)
{
	(void)stream_ring(ring, 0);
}

void trace_stream_loss(struct trace_ring *ring)
{
	uint64_t lost = ring->lost_known + atomic_exchange(&ring->lost, 0);

	ring->lost_known = 0;
	if (lost)
		write_events(ring, ring->slots, 0, lost);
	if (!ring->is_told || trace_session.is_finished)
		return;
	trace_write_new_name(&trace_session.file, ring);
	trace_write_thread_end(&trace_session.file, ring);
}

/* All that events are told by, once more; the events that were there are lost. */
static void write_names_again(struct trace_file *file)
{
	struct trace_session_state *s = &trace_session;

	s->totals.lost += s->totals.events;
	s->totals.events = 0;
	s->cursor = (struct trace_cursor){0};
	trace_write_head(file, &s->cursor);
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		if (atomic_load(&ring->state) == TRACE_RING_OWNED && ring->is_told)
			trace_write_thread(file, ring, ring->started);
}

void trace_stream_begin(void)
{
	trace_write_head(&trace_session.file, &trace_session.cursor);
	trace_session.file.begin_again = write_names_again;
}

void trace_tell_without_return(void)
{
	struct trace_totals *totals = &trace_session.totals;
	uint64_t n = trace_without_return();

	if (n > totals->no_return_told)
		trace_tell(TRACE_WORD_NO_RETURN, 0, n - totals->no_return_told, NULL);
	totals->no_return_told = n;
}

/* In good order, with what is not in the file; or that writing it has failed: it has the rest. */
static void tell_end(void)
{
	struct trace_totals *totals = &trace_session.totals;
	uint64_t lost = totals->lost + atomic_load(&trace_lost_without_ring);

	tell_failure();
	if (trace_session.file.error)
		return;
	if (lost > totals->lost_told)
		trace_tell(TRACE_WORD_LOST, 0, lost - totals->lost_told, NULL);
	totals->lost_told = lost;
	trace_tell_without_return();
	trace_tell(TRACE_WORD_ENDED, 0, totals->events, NULL);
}

void trace_stream_end(void)
{
	struct trace_session_state *s = &trace_session;

	if (s->file.fd >= 0) {
		(void)trace_catalogue_write(&s->file, &s->cursor);
		count(0);
		trace_write_end(&s->file, s->totals.events, s->totals.lost);
		count(0);
		(void)trace_file_close(&s->file);
	}
	tell_end();
}

void trace_stream_open(void)
{
	open_when_needed();
	tell_failure();
}

void trace_stream_finish(bool is_end)
{
	struct trace_session_state *s = &trace_session;

	if (s->is_finished)
		return;
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		if (atomic_load(&ring->state) != TRACE_RING_OWNED || !ring->is_ready)
			continue;
		if (is_end) {
			trace_stream_rest(ring);
			trace_stream_loss(ring);
		} else {
			(void)trace_stream_ring(ring);
			if (ring->is_told)
				trace_write_new_name(&s->file, ring);
		}
	}
	if (!is_end) {
		count(0);
		if (s->file.fd >= 0 && s->file.error)
			trace_write_end(&s->file, s->totals.events, s->totals.lost);
		else if (s->file.fd >= 0)
			trace_write_exec(&s->file);
		tell_end();
		return;
	}
	trace_stream_end();
	s->is_finished = true;
}

static _Atomic bool has_failed_exec;

void trace_stream_note_failed_exec(void)
{
	atomic_store(&has_failed_exec, true);
}

void trace_stream_go_on(void)
{
	struct trace_session_state *s = &trace_session;

	if (!atomic_exchange(&has_failed_exec, false) || s->is_finished)
		return;
	if (s->file.fd >= 0 && !s->file.error)
		trace_write_exec_failed(&s->file);
	if (!s->file.error)
		trace_tell(TRACE_WORD_GOES_ON, 0, 0, NULL);
}
