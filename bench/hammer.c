/* SPDX-License-Identifier: MIT */
/*
 * (e) What updates cost a thread that does nothing but call at the site: what it gets done,
 * and how long each update holds it up.
 *
 * Windows of some milliseconds in turn: no update, by `auto`, by int3, on one schedule,
 * which the updater keeps in all of them. On a virtual machine a thread's speed changes by a
 * third, for tens of milliseconds or longer, whenever the host gives the other half of the core
 * to somebody: only neighbouring windows can be compared, and there are many of them.
 *
 * A loop of one call and nothing else is as fast as the processor can fetch it, and is slower
 * for a while behind whatever has made its thread sleep. So there is a row where the thread
 * sleeps and nothing is updated, and rows of a loop that waits for arithmetic instead.
 */
#include "flips.h"

#include <shunt/inspect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bench *bench;

/* What happens at each of the scheduled times. */
enum event { NOTHING, BY_AUTO, BY_INT3, BY_FLIP, ELSEWHERE, A_SLEEP };

/* What the thread runs, what changes it, and whether it has been changed. */
struct loop {
	bench_loop_fn *fn;
	int (*change)(bool other);
	bool other;
};

static struct loop retargeted = {bench_loop_inline, bench_retarget, false},
		   retargeted_with_work = {bench_loop_work, bench_retarget_work, false},
		   branches = {bench_loop_branches, bench_turn_both, false},
		   branches_with_work = {bench_loop_branches_work, bench_turn_work, false},
		   elsewhere = {NULL, bench_turn_elsewhere, false};

struct what {
	const char *name;
	enum event event;
	double per_second;
	double window; /* seconds */
	struct loop *loop;
};

enum { CASES = 18 };

static const struct what whats[CASES] = {
	{"no updates (100/s)", NOTHING, 100, 0.02, &retargeted},
	{"100 updates/s", BY_AUTO, 100, 0.02, &retargeted},
	{"int3, 100 updates/s", BY_INT3, 100, 0.02, &retargeted},
	{"no updates, 1,000 sleeps of 10 us/s", A_SLEEP, 1000, 0.004, &retargeted},
	{"no updates (1,000/s)", NOTHING, 1000, 0.004, &retargeted},
	{"1,000 updates/s", BY_AUTO, 1000, 0.004, &retargeted},
	{"int3, 1,000 updates/s", BY_INT3, 1000, 0.004, &retargeted},
	{"no updates (10,000/s)", NOTHING, 10000, 0.002, &retargeted},
	{"10,000 updates/s", BY_AUTO, 10000, 0.002, &retargeted},
	{"int3, 10,000 updates/s", BY_INT3, 10000, 0.002, &retargeted},
	{"no updates (1,000/s), with work", NOTHING, 1000, 0.004, &retargeted_with_work},
	{"1,000 updates/s, with work", BY_AUTO, 1000, 0.004, &retargeted_with_work},
	{"int3, 1,000 updates/s, with work", BY_INT3, 1000, 0.004, &retargeted_with_work},
	{"branches, none switched (10,000/s)", NOTHING, 10000, 0.002, &branches},
	{"branches, 10,000 flips/s", BY_FLIP, 10000, 0.002, &branches},
	{"branches, 10,000 flips/s elsewhere", ELSEWHERE, 10000, 0.002, &branches},
	{"branches with work, none switched (10,000/s)", NOTHING, 10000, 0.002,
	 &branches_with_work},
	{"branches with work, 10,000 flips/s", BY_FLIP, 10000, 0.002, &branches_with_work},
};

/* The window of that loop and schedule in which nothing happens, or -1. */
static int floor_of(size_t which)
{
	for (size_t i = 0; whats[which].event != NOTHING && i < CASES; i++)
		if (whats[i].event == NOTHING && whats[i].loop == whats[which].loop &&
		    whats[i].per_second == whats[which].per_second)
			return (int)i;
	return -1;
}

/* ------------------------------------------------------------------- a window */

/* From when to when the updater was at it. */
struct span {
	double start, end;
};

enum { EVENTS_MAX = 64 };

struct window {
	struct span events[EVENTS_MAX];
	size_t n;
};

static int make_event(const struct what *what)
{
	struct loop *loop = what->event == ELSEWHERE ? &elsewhere : what->loop;

	if (what->event == A_SLEEP)
		bench_hammer_sleep();
	if (what->event == NOTHING || what->event == A_SLEEP)
		return 0;
	loop->other = !loop->other;
	return loop->change(loop->other);
}

static int run_window(const struct what *what, struct window *w)
{
	double start = bench_now(), end = start + what->window * 1e9;
	double step = 1e9 / what->per_second, next = start + step / 2;

	for (double now = start; now < end; now = bench_now()) {
		struct timespec ts = {0, 50000};

		if (now >= next && w->n < EVENTS_MAX) {
			w->events[w->n].start = now;
			if (make_event(what))
				return -1;
			w->events[w->n++].end = bench_now();
			next += step;
		} else if (next - now > 200000) {
			nanosleep(&ts, NULL);
		}
	}
	return 0;
}

/* ----------------------------------------------------------------- the stalls */

/* Of each case, what each of its events cost the thread, in microseconds. */
static struct stalls {
	double *v;
	size_t n, max;
} stalls[CASES];

static void add_stall(struct stalls *s, double us)
{
	if (s->n == s->max) {
		size_t max = s->max ? 2 * s->max : 256;
		double *v = reallocarray(s->v, max, sizeof(*v));

		if (!v)
			return;
		s->v = v;
		s->max = max;
	}
	s->v[s->n++] = us;
}

/* Million calls a second that the thread makes; *alone: nobody else had either CPU. */
static double time_window(const struct what *what, struct window *w, bool *alone)
{
	uint64_t calls;
	double start;
	long before;
	int err;

	w->n = 0;
	if (bench_hammer_start(bench, what->loop->fn))
		return -1;
	before = bench_preempted();
	calls = bench_hammer_calls();
	start = bench_now();
	err = run_window(what, w);
	calls = bench_hammer_calls() - calls;
	start = bench_now() - start;
	*alone = bench_preempted() == before;
	*alone &= bench_hammer_stop();
	return err ? -1 : (double)calls / start * 1e3;
}

/* A window in which somebody else ran is taken again, a few times. */
static double time_hammer(const void *arg)
{
	const struct what *what = arg;
	struct window w;
	bool alone = false;
	double sample = -1;

	if (shunt_set_poke(what->event == BY_INT3 ? SHUNT_POKE_INT3 : SHUNT_POKE_AUTO))
		return -1;
	for (int tries = 0; tries < 4 && !alone; tries++) {
		sample = time_window(what, &w, &alone);
		if (sample < 0)
			return -1;
	}
	for (size_t i = 0; i < w.n; i++)
		add_stall(&stalls[what - whats],
			  bench_hammer_lost(w.events[i].start, w.events[i].end) / 1e3);
	return sample;
}

/* ------------------------------------------------------------------- the rows */

static char names[CASES][64];

/* The way that `auto` goes while that thread runs. */
static const char *way_of_auto(void)
{
	static struct shunt_ways ways;
	int err = shunt_set_poke(SHUNT_POKE_AUTO) || bench_hammer_start(bench, bench_loop_inline);

	if (err)
		return "?";
	err = bench_retarget(true) || bench_retarget(false);
	(void)bench_hammer_stop();
	shunt_get_ways(&ways);
	return err ? "?" : ways.poke;
}

static void name_all(void)
{
	const char *way = way_of_auto();

	for (size_t i = 0; i < CASES; i++)
		if (whats[i].event == BY_AUTO)
			snprintf(names[i], sizeof(names[i]), "auto: %.12s, %s", way, whats[i].name);
		else
			snprintf(names[i], sizeof(names[i]), "%s", whats[i].name);
}

void bench_hammer(struct bench *b)
{
	struct bench_case cases[CASES];

	bench = b;
	if (!b->has_two) {
		bench_skip(b, "hammer", "all", "one CPU");
		bench_skip(b, "stall", "all", "one CPU");
		return;
	}
	name_all();
	for (size_t i = 0; i < CASES; i++)
		cases[i] = (struct bench_case){names[i], time_hammer, &whats[i], floor_of(i)};
	bench_run(b, "hammer", "Mcall/s", cases, CASES, b->quick ? 31 : 61);
	b->failed |= shunt_set_poke(SHUNT_POKE_AUTO) != 0;
	for (size_t i = 0; i < CASES; i++) {
		if (stalls[i].n)
			bench_add_samples(b, "stall", "us", names[i], stalls[i].v, stalls[i].n);
		free(stalls[i].v);
		stalls[i] = (struct stalls){0};
	}
}
