/* SPDX-License-Identifier: MIT */
/*
 * (e) What updates cost a thread that does nothing but call at the site: what it gets done,
 * and how long each update holds it up.
 *
 * Windows of some milliseconds in turn: no update, each way, and each way on a page that the thread
 * never comes to, on one schedule, which the updater keeps in all of them as well as it can. On a
 * virtual machine a thread's speed changes by a third, for tens of milliseconds or longer, whenever
 * the host gives the other half of the core to somebody: only neighbouring windows can be compared,
 * and there are many of them.
 *
 * A loop of one call and nothing else is as fast as the processor can fetch it, and is slower
 * for a while behind whatever has made its thread sleep. So there is a row where the thread
 * sleeps and nothing is updated, and rows of a loop that waits for arithmetic instead.
 */
#include "flips.h"

#include <linux/membarrier.h>
#include <shunt/inspect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct bench *bench;

/* What happens at each of the scheduled times, and the way that it is to go. */
enum event { NOTHING, BY_AUTO, BY_INT3, BY_REMAP, BY_FLIP, A_SLEEP, A_SYNC, EVENTS };

static const char *ways[EVENTS] = {[BY_INT3] = "int3", [BY_REMAP] = "remap", [BY_FLIP] = "flip"};

/* What the thread runs, what changes it, and whether it has been changed. */
struct loop {
	bench_loop_fn *fn;
	int (*change)(bool other);
	bool other;
};

static struct loop calls = {bench_loop_inline, bench_retarget, false},
		   calls_with_work = {bench_loop_work, bench_retarget_work, false},
		   branches = {bench_loop_branches, bench_turn_both, false},
		   branches_with_work = {bench_loop_branches_work, bench_turn_work, false};

/* What no thread runs, on pages of their own. */
static struct loop other_calls = {NULL, bench_retarget_elsewhere, false},
		   other_branches = {NULL, bench_turn_elsewhere, false};

struct what {
	const char *name;
	enum event event;
	double per_second;
	double window; /* seconds */
	struct loop *loop;
	struct loop *changed; /* NULL: nothing is */
};

/* Windows of updates; "elsewhere" is the control: the same updater and system calls, another page.
 */
#define UPDATES(rate, text, window, loop, with)                                               \
	{"no updates (" text "/s)" with, NOTHING, rate, window, &(loop), NULL},               \
		{text " updates/s" with, BY_AUTO, rate, window, &(loop), &(loop)},            \
		{"int3, " text " updates/s" with, BY_INT3, rate, window, &(loop), &(loop)},   \
		{"remap, " text " updates/s" with, BY_REMAP, rate, window, &(loop), &(loop)}, \
		{"int3, " text " updates/s elsewhere" with,                                   \
		 BY_INT3,                                                                     \
		 rate,                                                                        \
		 window,                                                                      \
		 &(loop),                                                                     \
		 &other_calls},                                                               \
	{                                                                                     \
		"remap, " text " updates/s elsewhere" with, BY_REMAP, rate, window, &(loop),  \
			&other_calls                                                          \
	}

#define FLIPS(rate, text, window, loop, with)                                                     \
	{"branches" with ", none switched (" text "/s)", NOTHING, rate, window, &(loop), NULL},   \
		{"branches" with ", " text " flips/s", BY_FLIP, rate, window, &(loop), &(loop)},  \
		{"branches" with ", " text " core syncs/s", A_SYNC, rate, window, &(loop), NULL}, \
	{                                                                                         \
		"branches" with ", " text " flips/s elsewhere", BY_FLIP, rate, window, &(loop),   \
			&other_branches                                                           \
	}

static const struct what whats[] = {
	UPDATES(100, "100", 0.02, calls, ""),
	{"no updates, 1,000 sleeps of 10 us/s", A_SLEEP, 1000, 0.004, &calls, NULL},
	UPDATES(1000, "1,000", 0.004, calls, ""),
	UPDATES(10000, "10,000", 0.002, calls, ""),
	UPDATES(1000, "1,000", 0.004, calls_with_work, ", with work"),
	FLIPS(1000, "1,000", 0.004, branches, ""),
	FLIPS(10000, "10,000", 0.002, branches, ""),
	FLIPS(10000, "10,000", 0.002, branches_with_work, " with work"),
};
enum { CASES = sizeof(whats) / sizeof(whats[0]) };

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
	double length; /* ns */
};

static int make_event(const struct what *what)
{
	struct loop *changed = what->changed;

	if (what->event == A_SLEEP)
		bench_hammer_sleep();
	if (what->event == A_SYNC) /* registered by the first update */
		return (int)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0,
				    0);
	if (!changed)
		return 0;
	changed->other = !changed->other;
	return changed->change(changed->other);
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

static enum shunt_poke_policy policy_of(enum event event)
{
	return event == BY_INT3    ? SHUNT_POKE_INT3
	       : event == BY_REMAP ? SHUNT_POKE_REMAP
				   : SHUNT_POKE_AUTO;
}

/* Whether the window's updates went the way that they were to go; on a busy machine it may have
 * none. */
static bool went_as_said(const struct what *what, const struct window *w)
{
	struct shunt_ways now;

	shunt_get_ways(&now);
	return !what->changed || !w->n || !strcmp(now.poke, ways[what->event]);
}

/* Million calls a second that the thread makes; *alone: nobody else had either CPU. */
static double time_window(const struct what *what, struct window *w, bool *alone)
{
	uint64_t made;
	double start;
	long before;
	int err;

	w->n = 0;
	if (bench_hammer_start(bench, what->loop->fn))
		return -1;
	before = bench_preempted();
	made = bench_hammer_calls();
	start = bench_now();
	err = run_window(what, w);
	made = bench_hammer_calls() - made;
	w->length = bench_now() - start;
	*alone = bench_preempted() == before;
	*alone &= bench_hammer_stop();
	return err || !went_as_said(what, w) ? -1 : (double)made / w->length * 1e3;
}

/* Of each case, updates a second that were made, a sample a window. */
static struct bench_series rates[CASES];

/* A window in which somebody else ran is taken again, a few times. */
static double time_hammer(const void *arg)
{
	const struct what *what = arg;
	struct bench_series *rate = &rates[what - whats];
	struct window w;
	bool alone = false;
	double sample = -1;

	if (shunt_set_poke(policy_of(what->event)))
		return -1;
	for (int tries = 0; tries < 4 && !alone; tries++) {
		sample = time_window(what, &w, &alone);
		if (sample < 0)
			return -1;
	}
	for (size_t i = 0; i < w.n; i++)
		add_stall(&stalls[what - whats],
			  bench_hammer_lost(w.events[i].start, w.events[i].end) / 1e3);
	if (what->event != NOTHING)
		rate->v[rate->n++] = (double)w.n / w.length * 1e9;
	return sample;
}

/* ---------------------------------------------------------- ways that there are */

/* What two updates make, there and back. */
struct shape {
	uint64_t syncs, writes;
};

static int see_shape(struct loop *loop, struct shape *shape)
{
	struct shunt_stats before, after;
	int err;

	shunt_get_stats(&before);
	err = loop->change(!loop->other) || loop->change(loop->other);
	shunt_get_stats(&after);
	*shape = (struct shape){after.syncs - before.syncs, after.writes - before.writes};
	return err;
}

/* With the thread in @here: the way that an update goes, or NULL; and whether one elsewhere is
 * alike. */
static const char *try_way(enum event event, struct loop *here, struct loop *elsewhere, bool *alike)
{
	static struct shunt_ways first, second;
	struct shape a, b;
	bool ok = !shunt_set_poke(policy_of(event)) && !bench_hammer_start(bench, here->fn);

	if (!ok)
		return NULL;
	/* What only the first update of a page needs is not compared. */
	ok = !see_shape(here, &a) && !see_shape(elsewhere, &b) && !see_shape(here, &a);
	shunt_get_ways(&first);
	ok &= !see_shape(elsewhere, &b);
	shunt_get_ways(&second);
	(void)bench_hammer_stop();
	*alike = a.syncs == b.syncs && a.writes == b.writes && !strcmp(first.poke, second.poke);
	return ok ? first.poke : NULL;
}

/* For each event what keeps it from being measured, or NULL. */
static const char *const *find_missing(void)
{
	static const char *why[EVENTS];
	bool alike = false;

	for (enum event e = BY_AUTO; e <= BY_FLIP; e++) {
		bool is_flip = e == BY_FLIP;
		const char *way = try_way(e, is_flip ? &branches : &calls,
					  is_flip ? &other_branches : &other_calls, &alike);

		if (e == BY_AUTO)
			ways[e] = way; /* whichever */
		why[e] = !way                        ? "an update fails"
			 : strcmp(way, ways[e]) != 0 ? "goes another way here"
			 : !alike                    ? "makes other calls elsewhere"
						     : NULL;
	}
	return why;
}

/* ------------------------------------------------------------------- the rows */

static char names[CASES][64];

static void name_all(void)
{
	for (size_t i = 0; i < CASES; i++)
		if (whats[i].event == BY_AUTO)
			snprintf(names[i], sizeof(names[i]), "auto: %.12s, %s",
				 ways[BY_AUTO] ? ways[BY_AUTO] : "?", whats[i].name);
		else
			snprintf(names[i], sizeof(names[i]), "%s", whats[i].name);
}

static void add_rates_and_stalls(struct bench *b)
{
	for (size_t i = 0; i < CASES; i++) {
		memcpy(rates[i].name, names[i], sizeof(names[i]));
		if (rates[i].n)
			bench_add(b, "rate", "a second", &rates[i], NULL);
		if (stalls[i].n)
			bench_add_samples(b, "stall", "us", names[i], stalls[i].v, stalls[i].n);
		free(stalls[i].v);
		stalls[i] = (struct stalls){0};
	}
}

void bench_hammer(struct bench *b)
{
	struct bench_case cases[CASES];
	size_t n = 0;
	int index[CASES];
	const char *const *missing;

	bench = b;
	if (!b->has_two) {
		bench_skip(b, "hammer", "all", "one CPU");
		bench_skip(b, "stall", "all", "one CPU");
		return;
	}
	missing = find_missing();
	name_all();
	for (size_t i = 0; i < CASES; i++)
		if (missing[whats[i].event])
			bench_skip(b, "hammer", names[i], missing[whats[i].event]);
		else
			index[i] = (int)n++;
	for (size_t i = 0; i < CASES; i++) {
		int floor = floor_of(i); /* where nothing happens: never missing */

		if (!missing[whats[i].event])
			cases[index[i]] = (struct bench_case){names[i], time_hammer, &whats[i],
							      floor < 0 ? -1 : index[floor]};
	}
	bench_run(b, "hammer", "Mcall/s", cases, n, b->quick ? 31 : 61);
	b->failed |= shunt_set_poke(SHUNT_POKE_AUTO) != 0;
	add_rates_and_stalls(b);
}
