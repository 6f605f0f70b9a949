/* SPDX-License-Identifier: MIT */
#include "trace_events.h"

#include <errno.h>

#define BLOCK 65536u /* events that are read at once */

/* Two times that are further apart the wrong way round have the end of the 49 bits between them. */
#define MAX_BACK   ((uint64_t)1 << 33)
#define TIME_MASK  (((uint64_t)1 << TRACE_TIME_BITS) - 1)
#define ADDR_MASK  (((uint64_t)1 << TRACE_ADDR_BITS) - 1)
#define LOW_BITS   15u
#define LOW_MASK   ((1u << LOW_BITS) - 1)
#define KIND_SHIFT 62u

/* The whole time of an event whose low bits are @low, not far from @before. */
static uint64_t unwrap(uint64_t before, uint64_t low)
{
	uint64_t forward = (low - before) & TIME_MASK;

	if (TIME_MASK + 1 - forward < MAX_BACK && before >= TIME_MASK + 1 - forward)
		return before - (TIME_MASK + 1 - forward);
	return before + forward;
}

/* The event that @raw says. @last: the time of the one before, and then of this one. */
static struct event decode(struct trace_file *f, const struct trace_event *raw, uint64_t *last)
{
	uint64_t addr = raw->word[1] & ADDR_MASK;
	struct event event = {
		.ticks = unwrap(*last, raw->word[0] >> LOW_BITS),
		.stack = (uint32_t)((raw->word[1] >> TRACE_ADDR_BITS & LOW_MASK) << LOW_BITS |
				    (raw->word[0] & LOW_MASK)),
		.kind = (uint32_t)(raw->word[1] >> KIND_SHIFT) & 3u,
		.function = TRACE_NONE,
	};

	*last = event.ticks;
	if (addr || event.kind == TRACE_ENTRY || event.kind == TRACE_CALL)
		event.function = trace_function_at(f, addr, event.ticks);
	return event;
}

static int load_piece(struct thread_events *t, struct trace_file *f, const struct file_piece *piece,
		      struct trace_event *block, uint64_t *last)
{
	struct gap gap = {.at = t->n, .lost = piece->lost};

	if (piece->lost && !array_add(&t->gaps, &gap, sizeof(gap)))
		return trace_failed(f, ENOMEM);
	for (uint32_t done = 0; done < piece->count;) {
		uint32_t n = piece->count - done < BLOCK ? piece->count - done : BLOCK;

		if (trace_read(f, block, n * sizeof(*block),
			       piece->offset + (uint64_t)done * sizeof(*block)))
			return -1;
		for (uint32_t i = 0; i < n; i++)
			t->events[t->n++] = decode(f, &block[i], last);
		done += n;
	}
	return 0;
}

/* ----------------------------------------------------------------------------- order */

static void merge(struct event *a, size_t middle, size_t n, struct event *left)
{
	size_t i = 0, j = middle, to = 0;

	memcpy(left, a, middle * sizeof(*a));
	while (i < middle)
		a[to++] = j < n && a[j].ticks < left[i].ticks ? a[j++] : left[i++];
}

/*
 * A signal handler's events may stand before the event that it interrupted. To sort them is to
 * merge ever longer runs; where two are in order already, which nearly all are, nothing is
 * moved.
 */
static int sort(struct thread_events *t)
{
	struct event *a = t->events, *left;
	size_t i = 1;

	while (i < t->n && a[i - 1].ticks <= a[i].ticks)
		i++;
	if (i >= t->n)
		return 0;
	left = malloc(t->n * sizeof(*left));
	if (!left)
		return -ENOMEM;
	for (size_t run = 1; run < t->n; run *= 2)
		for (i = 0; i + run < t->n; i += 2 * run) {
			size_t n = t->n - i < 2 * run ? t->n - i : 2 * run;

			if (a[i + run].ticks < a[i + run - 1].ticks)
				merge(a + i, run, n, left);
		}
	free(left);
	return 0;
}

/* ----------------------------------------------------------------------------- mates */

/* Whether the function of the entry @entry is that of the return @end. */
static bool same_call(const struct event *entry, const struct event *end)
{
	return end->function == TRACE_NONE || end->function == entry->function;
}

/*
 * A return belongs to the last entry of the same place on a stack. This is so whatever happened
 * in between: a call that ended otherwise has no return.
 */
static int find_mates(struct thread_events *t)
{
	struct hash open = {0}; /* by place on the stack: the number of the entry + 1 */

	for (uint32_t i = 0; i < t->n; i++) {
		const struct event *event = &t->events[i];
		uint32_t *entry = hash_at(&open, event->stack);

		if (!entry) {
			hash_free(&open);
			return -ENOMEM;
		}
		t->mate[i] = TRACE_NONE;
		if (event->kind == TRACE_ENTRY) {
			*entry = i + 1;
			continue;
		}
		if (event->kind != TRACE_CALL && *entry &&
		    same_call(&t->events[*entry - 1], event)) {
			t->mate[i] = *entry - 1;
			t->mate[*entry - 1] = i;
		}
		*entry = 0;
	}
	hash_free(&open);
	return 0;
}

int trace_events_load(struct thread_events *t, struct trace_file *f,
		      const struct file_thread *thread)
{
	struct trace_event *block = malloc(BLOCK * sizeof(*block));
	const struct file_piece *pieces = thread->pieces.data;
	uint64_t last = thread->raw.started;
	int ret = 0;

	*t = (struct thread_events){0};
	if (thread->events >= TRACE_NONE)
		ret = -E2BIG;
	t->events = ret ? NULL : malloc(thread->events * sizeof(*t->events) + 1);
	t->mate = ret ? NULL : malloc(thread->events * sizeof(*t->mate) + 1);
	if (!ret && (!block || !t->events || !t->mate))
		ret = -ENOMEM;
	if (ret)
		ret = trace_failed(f, -ret);
	for (size_t i = 0; i < thread->pieces.n && !ret; i++)
		ret = load_piece(t, f, &pieces[i], block, &last);
	free(block);
	if (!ret && (sort(t) || find_mates(t)))
		ret = trace_failed(f, ENOMEM);
	if (ret)
		trace_events_free(t);
	return ret;
}

void trace_events_free(struct thread_events *t)
{
	free(t->events);
	free(t->mate);
	array_free(&t->gaps);
	*t = (struct thread_events){0};
}
