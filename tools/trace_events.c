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

static uint64_t address_in(const struct trace_file *f, uint64_t bits)
{
	if (!(f->session.flags & TRACE_ADDR_IS_48))
		return bits;
	return (bits & ~UINT64_C(1)) | (bits & 1) << TRACE_ADDR_BITS;
}

struct event trace_event_decode(struct trace_file *f, const struct trace_event *raw, uint64_t *last)
{
	uint64_t addr = address_in(f, raw->word[1] & ADDR_MASK);
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
			t->events[t->n++] = trace_event_decode(f, &block[i], last);
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

/* What is open, while mates are looked for. Numbers of entries + 1; 0: none. */
struct open {
	struct hash places;    /* by place on the stack: the last one */
	struct hash functions; /* by function: the last one, where returns say of what they are */
	uint32_t *before;      /* by entry: the one of the same function before it; or NULL */
};

/* A frame is no bigger, in words. */
#define FRAME (1u << 17)
/* How many entries of a function are looked at, so that time stays linear. */
#define LOOKS 64u

/*
 * The entry of a return that says of which function it is: at the same place; else the one nearest
 * below, for the place is where the frame began; else the last one, for its place is lower by what
 * alloca() took. 0: there is none.
 */
static uint32_t find_own(const struct thread_events *t, const struct open *open,
			 const struct event *event)
{
	uint32_t below = 0, above = 0, entry = hash_get(&open->functions, event->function);

	for (unsigned looks = 0; entry && looks < LOOKS; looks++, entry = open->before[entry - 1]) {
		uint32_t place = t->events[entry - 1].stack;

		if (t->mate[entry - 1] != TRACE_NONE)
			continue;
		if (place == event->stack)
			return entry;
		if (place < event->stack && event->stack - place < FRAME &&
		    (!below || place > t->events[below - 1].stack))
			below = entry;
		if (place > event->stack && place - event->stack < FRAME && !above)
			above = entry;
	}
	return below ? below : above;
}

static int note_entry(struct open *open, const struct event *event, uint32_t i, uint32_t *at_place)
{
	uint32_t *last;

	*at_place = i + 1;
	if (!open->before)
		return 0;
	last = hash_at(&open->functions, event->function);
	if (!last)
		return -ENOMEM;
	open->before[i] = *last;
	*last = i + 1;
	return 0;
}

static void note_end(struct thread_events *t, struct open *open, uint32_t i, uint32_t *at_place)
{
	struct event *event = &t->events[i];
	uint32_t entry = *at_place;

	/* One at this place may have ended by a return that was told at another. */
	if (entry && (event->kind == TRACE_CALL || t->mate[entry - 1] != TRACE_NONE ||
		      !same_call(&t->events[entry - 1], event)))
		entry = 0;
	if (event->kind == TRACE_RETURN && event->function != TRACE_NONE && !entry)
		entry = find_own(t, open, event);
	*at_place = 0;
	if (!entry)
		return;
	t->mate[i] = entry - 1;
	t->mate[entry - 1] = i;
	event->stack = t->events[entry - 1].stack;
}

static bool says_function(const struct thread_events *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->events[i].kind == TRACE_RETURN && t->events[i].function != TRACE_NONE)
			return true;
	return false;
}

static int match(struct thread_events *t, struct open *open)
{
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t *at_place = hash_at(&open->places, t->events[i].stack);

		if (!at_place)
			return -ENOMEM;
		t->mate[i] = TRACE_NONE;
		if (t->events[i].kind != TRACE_ENTRY)
			note_end(t, open, i, at_place);
		else if (note_entry(open, &t->events[i], i, at_place))
			return -ENOMEM;
	}
	return 0;
}

/*
 * A return belongs to the last entry of the same place on a stack. This is so whatever happened
 * in between: a call that ended otherwise has no return.
 */
static int find_mates(struct thread_events *t)
{
	struct open open = {0};
	int ret = 0;

	if (says_function(t)) {
		open.before = malloc(t->n * sizeof(*open.before));
		ret = open.before ? 0 : -ENOMEM;
	}
	if (!ret)
		ret = match(t, &open);
	hash_free(&open.places);
	hash_free(&open.functions);
	free(open.before);
	return ret;
}

/* With --entries that is all of them, and what was asked for. */
static void count_without_return(const struct thread_events *t, struct trace_file *f,
				 const struct file_thread *thread)
{
	size_t number = (size_t)(thread - trace_thread_at(f, 0));
	uint64_t n = 0;

	if (f->session.flags & TRACE_ENTRY_ONLY)
		return;
	for (size_t i = 0; i < t->n; i++)
		n += t->events[i].kind == TRACE_CALL;
	trace_thread_at(f, number)->no_return = n;
}

int trace_events_read(struct thread_events *t, struct trace_file *f,
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
	if (!ret)
		count_without_return(t, f, thread);
	if (!ret && sort(t))
		ret = trace_failed(f, ENOMEM);
	if (ret)
		trace_events_free(t);
	return ret;
}

int trace_events_load(struct thread_events *t, struct trace_file *f,
		      const struct file_thread *thread)
{
	int ret = trace_events_read(t, f, thread);

	if (ret || !find_mates(t))
		return ret;
	trace_events_free(t);
	return trace_failed(f, ENOMEM);
}

int trace_events_last(const struct trace_file *f, const struct file_thread *thread, uint64_t *ticks)
{
	const struct file_piece *pieces = thread->pieces.data;
	size_t n = thread->pieces.n;
	struct trace_event raw;
	uint64_t forward;

	while (n && !pieces[n - 1].count)
		n--;
	if (!n)
		return 0;
	if (trace_read(f, &raw, sizeof(raw),
		       pieces[n - 1].offset + (pieces[n - 1].count - 1) * (uint64_t)sizeof(raw)))
		return -1;
	forward = ((raw.word[0] >> LOW_BITS) - *ticks) & TIME_MASK;
	if (forward <= TIME_MASK / 2)
		*ticks += forward;
	return 0;
}

int trace_events_end(const struct trace_file *f, uint64_t *end)
{
	*end = f->ended ? f->end.ticks : f->at_exec ? f->exec.ticks : f->last_clock.ticks;
	if (f->ended || f->at_exec)
		return 0;
	for (size_t i = 0; i < f->threads.n; i++)
		if (trace_events_last(f, trace_thread_at(f, i), end))
			return -1;
	return 0;
}

bool trace_events_may_last(const struct thread_events *t, const struct trace_file *f)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->events[i].kind == TRACE_ENTRY && t->mate[i] == TRACE_NONE &&
		    trace_may_be_inlined(f, &t->events[i]))
			return true;
	return false;
}

void trace_events_free(struct thread_events *t)
{
	free(t->events);
	free(t->mate);
	array_free(&t->gaps);
	*t = (struct thread_events){0};
}
