/* SPDX-License-Identifier: MIT */
#include "trace_live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trace_events.h"

#define BLOCK 8192u      /* events that are read at once */
#define STACK (1u << 20) /* words: two places further apart are on two stacks */
#define LOOKS 64u        /* open calls that a return is looked for among */
#define PAGE  4096u

struct open_call {
	uint32_t function, place;
	uint64_t start, inner; /* ticks; of calls within it */
};

struct live_thread {
	struct array open;   /* of struct open_call, the outermost first */
	struct hash nesting; /* by function: how many are open */
	uint64_t last;
};

void live_open(struct live *live, const char *path, int fd, bool keeps)
{
	*live = (struct live){.keeps = keeps};
	trace_open_growing(&live->f, path, fd);
}

void live_close(struct live *live)
{
	for (size_t i = 0; i < live->threads.n; i++) {
		struct live_thread *t = (struct live_thread *)live->threads.data + i;

		array_free(&t->open);
		hash_free(&t->nesting);
	}
	array_free(&live->threads);
	array_free(&live->rows);
	hash_free(&live->numbers);
	trace_close(&live->f);
}

static struct live_row *row_of(struct live *live, uint32_t function)
{
	struct live_row row = {.function = function};
	uint32_t *number = hash_at(&live->numbers, function);

	if (!number)
		return NULL;
	if (!*number) {
		if (!array_add(&live->rows, &row, sizeof(row)))
			return NULL;
		*number = (uint32_t)live->rows.n;
	}
	return (struct live_row *)live->rows.data + *number - 1;
}

/* ------------------------------------------------------------------------- one event */

static void forget_last(struct live_thread *t)
{
	const struct open_call *call = (const struct open_call *)t->open.data + --t->open.n;
	uint32_t *nesting = hash_at(&t->nesting, call->function);

	if (nesting && *nesting)
		--*nesting;
}

/* Whether @event can be inlined in what is open at its place: not where its function is. */
static bool is_inlined(const struct live *live, const struct live_thread *t,
		       const struct event *event)
{
	const struct open_call *open = t->open.data;

	if (!trace_may_be_inlined(&live->f, event))
		return false;
	for (size_t i = t->open.n, looks = 0; i-- > 0 && looks < LOOKS; looks++) {
		if (open[i].place != event->stack)
			break;
		if (open[i].function == event->function)
			return false;
	}
	return true;
}

/* Calls whose frame is at its place or below it, on the same stack, have ended without a return. */
static void forget_below(const struct live *live, struct live_thread *t, const struct event *event)
{
	while (t->open.n) {
		const struct open_call *call =
			(const struct open_call *)t->open.data + t->open.n - 1;

		if (call->place > event->stack || event->stack - call->place >= STACK ||
		    (call->place == event->stack && is_inlined(live, t, event)))
			return;
		forget_last(t);
	}
}

static int begin_call(const struct live *live, struct live_thread *t, const struct event *event)
{
	struct open_call call = {
		.function = event->function, .place = event->stack, .start = event->ticks};
	uint32_t *nesting;

	forget_below(live, t, event);
	nesting = hash_at(&t->nesting, event->function);
	if (!nesting || !array_add(&t->open, &call, sizeof(call)))
		return -ENOMEM;
	++*nesting;
	return 0;
}

/* The open call that @event ends, from the innermost on: at its place, or else of its function. */
static size_t find_call(const struct live_thread *t, const struct event *event)
{
	const struct open_call *open = t->open.data;
	size_t found = SIZE_MAX;

	for (size_t i = t->open.n, looks = 0; i-- > 0 && looks < LOOKS; looks++) {
		if (open[i].place == event->stack &&
		    (event->function == TRACE_NONE || open[i].function == event->function))
			return i;
		if (found == SIZE_MAX && open[i].function == event->function)
			found = i;
	}
	return found;
}

static int end_call(struct live *live, struct live_thread *t, const struct event *event)
{
	size_t i = find_call(t, event);
	struct open_call call;
	struct live_row *row;
	uint64_t ticks;

	if (i == SIZE_MAX)
		return 0;
	while (t->open.n > i + 1)
		forget_last(t);
	call = ((struct open_call *)t->open.data)[i];
	forget_last(t);
	row = row_of(live, call.function);
	if (!row)
		return -ENOMEM;
	ticks = event->ticks > call.start ? event->ticks - call.start : 0;
	row->now.timed++;
	row->now.self += ticks > call.inner ? ticks - call.inner : 0;
	row->max = ticks > row->max ? ticks : row->max;
	/* The time of an inner call of a recursion is part of the outer one's. */
	if (!hash_get(&t->nesting, call.function))
		row->now.total += ticks;
	if (t->open.n)
		((struct open_call *)t->open.data)[t->open.n - 1].inner += ticks;
	return 0;
}

static int take_event(struct live *live, struct live_thread *t, const struct event *event)
{
	struct live_row *row;

	if (event->kind == TRACE_RETURN || event->kind == TRACE_TAIL)
		return end_call(live, t, event);
	row = row_of(live, event->function);
	if (!row)
		return -ENOMEM;
	row->now.calls++;
	live->no_return += event->kind == TRACE_CALL && !(live->f.session.flags & TRACE_ENTRY_ONLY);
	return event->kind == TRACE_ENTRY ? begin_call(live, t, event) : 0;
}

/* ------------------------------------------------------------------------ all of them */

static int read_piece(struct live *live, struct live_thread *t, const struct file_piece *piece,
		      struct trace_event *block)
{
	if (piece->lost) /* returns may be among them */
		while (t->open.n)
			forget_last(t);
	for (uint32_t done = 0; done < piece->count;) {
		uint32_t n = piece->count - done < BLOCK ? piece->count - done : BLOCK;

		if (trace_read(&live->f, block, n * sizeof(*block),
			       piece->offset + (uint64_t)done * sizeof(*block)))
			return -1;
		for (uint32_t i = 0; i < n; i++) {
			struct event event = trace_event_decode(&live->f, &block[i], &t->last);

			if (take_event(live, t, &event))
				return trace_failed(&live->f, ENOMEM);
		}
		done += n;
	}
	return 0;
}

static int read_thread(struct live *live, size_t number, struct trace_event *block)
{
	struct file_thread *thread = trace_thread_at(&live->f, number);
	struct live_thread *t;
	int ret = 0;

	if (number == live->threads.n) {
		struct live_thread first = {.last = thread->raw.started};

		if (!array_add(&live->threads, &first, sizeof(first)))
			return trace_failed(&live->f, ENOMEM);
	}
	t = (struct live_thread *)live->threads.data + number;
	for (size_t i = 0; i < thread->pieces.n && !ret; i++)
		ret = read_piece(live, t, (struct file_piece *)thread->pieces.data + i, block);
	thread->pieces.n = 0;
	while (thread->has_ended && t->open.n)
		forget_last(t);
	return ret;
}

/* Where the file system cannot do that, the file grows. */
static void punch(struct live *live)
{
	uint64_t to = live->f.offset & ~(uint64_t)(PAGE - 1);

	if (live->keeps || to == live->punched)
		return;
	(void)fallocate(live->f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)live->punched, (off_t)(to - live->punched));
	live->punched = to;
}

int live_read(struct live *live)
{
	struct trace_event *block = malloc(BLOCK * sizeof(*block));
	int ret = block ? trace_read_growing(&live->f) : trace_failed(&live->f, ENOMEM);

	for (size_t i = 0; i < live->f.threads.n && !ret; i++)
		ret = read_thread(live, i, block);
	free(block);
	punch(live);
	return ret;
}

/* ---------------------------------------------------------------------- what runs now */

/* The clock is read for the file every few seconds, as long as somebody writes to it at all. */
#define FRESH_NS UINT64_C(10000000000)

/* The time of the session, ticks; 0: it is not known. */
static uint64_t ticks_now(const struct trace_file *f)
{
	uint64_t ns, age;
	struct timespec now;

	if (f->has_failed) /* what has returned since is lost */
		return 0;
	if (f->ended || f->at_exec)
		return f->ended ? f->end.ticks : f->exec.ticks;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	age = ns - f->last_clock.monotonic_ns;
	if (!f->has_clock || ns < f->last_clock.monotonic_ns || age > FRESH_NS)
		return f->last_clock.ticks;
	return f->last_clock.ticks + trace_ticks(f, age);
}

static void find_running(struct live *live, const struct live_thread *t, uint64_t now,
			 uint64_t least)
{
	const struct open_call *open = t->open.data;

	for (size_t i = 0; i < t->open.n; i++) {
		struct live_row *row = row_of(live, open[i].function);
		uint64_t ticks = now > open[i].start ? now - open[i].start : 0;

		if (!row || ticks < least)
			continue;
		row->runs = ticks > row->runs ? ticks : row->runs;
		if (i == t->open.n - 1)
			row->waits += ticks - (ticks > open[i].inner ? open[i].inner : ticks);
	}
}

void live_find_running(struct live *live)
{
	uint64_t now = ticks_now(&live->f);
	uint64_t least = trace_ticks(&live->f, LIVE_RUNS_MS * UINT64_C(1000000));

	for (size_t i = 0; i < live->rows.n; i++) {
		struct live_row *row = (struct live_row *)live->rows.data + i;

		row->runs = row->waits = 0;
	}
	for (size_t i = 0; i < live->threads.n; i++)
		find_running(live, (struct live_thread *)live->threads.data + i, now, least);
}

void live_turn(struct live *live)
{
	for (size_t i = 0; i < live->rows.n; i++) {
		struct live_row *row = (struct live_row *)live->rows.data + i;

		row->before = row->now;
	}
}
