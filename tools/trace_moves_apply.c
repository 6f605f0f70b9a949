/* SPDX-License-Identifier: MIT */
#include "trace_moves.h"

#include <errno.h>

/* Those of one thread, in order. */
struct range {
	const struct move *moves;
	size_t n;
};

static struct range out_of(const struct moves *moves, uint32_t number)
{
	const struct move *all = moves->out.data;
	size_t from = 0, to;

	while (from < moves->out.n && all[from].from < number)
		from++;
	for (to = from; to < moves->out.n && all[to].from == number;)
		to++;
	return (struct range){all + from, to - from};
}

static struct range into(const struct moves *moves, uint32_t number)
{
	const struct move *all = moves->in.data;
	size_t from = 0, to;

	while (from < moves->in.n && all[from].to < number)
		from++;
	for (to = from; to < moves->in.n && all[to].to == number;)
		to++;
	return (struct range){all + from, to - from};
}

static void part(struct thread_events *t, uint32_t i)
{
	if (t->mate[i] != TRACE_NONE)
		t->mate[t->mate[i]] = TRACE_NONE;
	t->mate[i] = TRACE_NONE;
}

static size_t count_known(struct range out)
{
	size_t n = 0;

	for (size_t i = 0; i < out.n; i++)
		n += out.moves[i].is_known;
	return n;
}

/* Before which event what happens at @ticks stands. */
static uint32_t event_after(const struct thread_events *t, uint64_t ticks)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (t->events[middle].ticks <= ticks)
			low = middle + 1;
		else
			high = middle;
	}
	return (uint32_t)low;
}

/* The events with the returns between them; @at[]: where those of before are now, and the end. */
static void spread(struct thread_events *to, const struct thread_events *from, struct range out,
		   uint32_t *at)
{
	size_t next = 0, n = 0;

	for (uint32_t i = 0; i <= from->n; i++) {
		for (; next < out.n; next++) {
			const struct move *move = &out.moves[next];

			if (!move->is_known)
				continue;
			if (i < from->n && from->events[i].ticks <= move->ticks)
				break;
			to->events[n] = (struct event){.ticks = move->ticks,
						       .stack = move->place &
								((1u << TRACE_STACK_BITS) - 1),
						       .kind = move->kind & 3u,
						       .function = TRACE_NONE};
			to->mate[n++] = move->entry;
		}
		at[i] = (uint32_t)n;
		if (i == from->n)
			break;
		to->events[n] = from->events[i];
		to->mate[n++] = from->mate[i];
	}
	to->n = n;
}

/* Numbers of events, those of before, become those of now. */
static void renumber(struct thread_events *t, const uint32_t *at)
{
	struct gap *gaps = t->gaps.data;

	for (size_t i = 0; i < t->n; i++)
		if (t->mate[i] != TRACE_NONE)
			t->mate[i] = at[t->mate[i]];
	for (size_t i = 0; i < t->gaps.n; i++)
		gaps[i].at = at[gaps[i].at];
}

static int compare(const void *a, const void *b)
{
	const struct moved *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (int)x->what - (int)y->what;
}

/* What is to be known of the events that have moved, and of those that were here. */
static int note(struct thread_events *t, const struct trace_file *f, struct range out,
		struct range in, const uint32_t *at)
{
	size_t returns = 0;

	for (size_t i = 0; i < out.n; i++) {
		const struct move *move = &out.moves[i];
		uint32_t entry = at[move->entry];
		struct moved left = {.what = MOVED_LEFT,
				     .at = event_after(t, move->left),
				     .entry = entry,
				     .ticks = move->left};
		struct moved back = {.what = MOVED_RETURN,
				     .entry = entry,
				     .tid = trace_thread_at(f, move->to)->raw.tid};

		if (!move->is_known)
			continue;
		back.at = t->mate[entry];
		left.at = left.at < back.at ? left.at : back.at;
		if (!array_add(&t->moved, &left, sizeof(left)) ||
		    !array_add(&t->moved, &back, sizeof(back)))
			return -ENOMEM;
		returns++;
	}
	for (size_t i = 0; i < in.n; i++) {
		struct moved here = {.what = MOVED_HERE, .at = at[in.moves[i].end]};

		if (in.moves[i].is_known && !array_add(&t->moved, &here, sizeof(here)))
			return -ENOMEM;
	}
	if (t->moved.n)
		qsort(t->moved.data, t->moved.n, sizeof(struct moved), compare);
	return 0;
}

static int insert(struct thread_events *t, const struct trace_file *f, struct range out,
		  struct range in)
{
	size_t n = t->n + count_known(out);
	struct thread_events all = {.events = malloc(n * sizeof(*all.events) + 1),
				    .mate = malloc(n * sizeof(*all.mate) + 1)};
	uint32_t *at = malloc((t->n + 1) * sizeof(*at));
	int ret = all.events && all.mate && at && n < TRACE_NONE ? 0 : -ENOMEM;

	if (!ret) {
		struct event *events = t->events;
		uint32_t *mate = t->mate;

		spread(&all, t, out, at);
		t->events = all.events;
		t->mate = all.mate;
		t->n = all.n;
		all.events = events;
		all.mate = mate;
		renumber(t, at);
		for (uint32_t i = 0; i < t->n; i++)
			if (t->mate[i] != TRACE_NONE)
				t->mate[t->mate[i]] = i;
		ret = note(t, f, out, in, at);
	}
	free(at);
	free(all.events);
	free(all.mate);
	return ret;
}

int trace_moves_apply(const struct moves *moves, struct thread_events *t, struct trace_file *f,
		      uint32_t number)
{
	struct range out = out_of(moves, number), in = into(moves, number);

	for (size_t i = 0; i < out.n; i++) {
		part(t, out.moves[i].entry);
		if (out.moves[i].is_known)
			continue;
		t->events[out.moves[i].entry].kind = TRACE_CALL;
		trace_thread_at(f, number)->no_return++;
	}
	for (size_t i = 0; i < in.n; i++)
		part(t, in.moves[i].end);
	return (out.n || in.n) && insert(t, f, out, in) ? trace_failed(f, ENOMEM) : 0;
}
