/* SPDX-License-Identifier: MIT */
/*
 * One run: threads that hammer sites, one that updates their keys, and the
 * question after each call whether it may have reached what it reached.
 *
 * Each key has an epoch, 2u after u updates and odd within one, and a history of
 * its targets. A thread reads the epoch before and after a call: the call must have
 * reached a target that was the key's at some time in between. Where an update had
 * returned before the call began, that leaves its predecessor out.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <shunt/inspect.h>

#include "torture.h"

#define HISTORY 4096u /* updates; a power of 2 */
#define BURST   96u   /* updates of one key before the next one's turn */

struct state {
	_Atomic uint64_t epoch;
	_Atomic uint8_t history[HISTORY]; /* target after each update */
};

static struct state states[TORTURE_SITES + 1]; /* the last one: of the key torture */
static void (*targets[TARGETS])(void);

static struct {
	bool batch;
	enum provoke provoke;
	uint64_t updates;
	time_t budget;        /* seconds for what is provoked; then most updates run free */
	_Atomic size_t focus; /* the site whose key is being updated */
	_Atomic bool stop;
} job;

static uint64_t load(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_acquire);
}

static void add(_Atomic uint64_t *p)
{
	atomic_fetch_add_explicit(p, 1, memory_order_relaxed);
}

static uint32_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}

static const struct torture_site *site_at(size_t i)
{
	return job.batch ? &torture_batch[i] : &torture_single[i];
}

static struct state *state_of(size_t site)
{
	return &states[job.batch ? TORTURE_SITES : site];
}

/* ------------------------------------------------------------------ failures */

/* Keep the first failure's message, and end the run. */
__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
	va_list args;

	if (!atomic_exchange(&stats->failed, true)) {
		va_start(args, format);
		(void)vsnprintf(stats->message, sizeof(stats->message), format, args);
		va_end(args);
	}
	atomic_store(&job.stop, true);
}

static void fail_call(const char *who, size_t site, long arg, long result, uint64_t before,
		      uint64_t after)
{
	static const char *const kinds[] = {"call", "jmp", "jne"};
	const struct torture_site *s = site_at(site);
	uint64_t x = (uint64_t)result ^ (uint64_t)arg;
	const struct state *st = state_of(site);

	fail("%s: %s at line offset %zu: %s %#llx, target now %d, epoch %llu to %llu", who,
	     kinds[s->kind], (size_t)((uintptr_t)s->insn % 64),
	     x - TORTURE_MAGIC < TARGETS ? "wrong target" : "result",
	     (unsigned long long)(x - TORTURE_MAGIC < TARGETS ? x - TORTURE_MAGIC
							      : (uint64_t)result),
	     st->history[after / 2 % HISTORY], (unsigned long long)before,
	     (unsigned long long)after);
}

/* ------------------------------------------------------------------- one call */

/* Whether @target was the key's at some time from epoch @before to epoch @after. */
static bool was_current(struct state *st, size_t target, uint64_t before, uint64_t after)
{
	uint64_t u = before / 2, last = (after + 1) / 2;

	if (last - u < HISTORY / 2)
		for (; u <= last; u++)
			if (st->history[u % HISTORY] == target)
				return true;
	/* The history may have been overwritten while this thread did not run. */
	if (load(&st->epoch) / 2 - before / 2 < HISTORY / 2)
		return false;
	add(&stats->unchecked);
	return true;
}

/* Call a site once. Returns false where the result cannot be. */
static bool call(const char *who, size_t site, long arg)
{
	const struct torture_site *s = site_at(site);
	struct state *st = state_of(site);
	uint64_t before = load(&st->epoch), after;
	long result = torture_call(s->fn, arg, s->next);
	uint64_t target = ((uint64_t)result ^ (uint64_t)arg) - TORTURE_MAGIC;

	after = load(&st->epoch);
	if (s->kind == TORTURE_JCC && !(arg & 1)) {
		if ((result ^ arg) == TORTURE_NOT_TAKEN)
			return true;
	} else if (target < TARGETS && was_current(st, target, before, after)) {
		if (before == after && !(before & 1))
			add(&stats->settled);
		return true;
	}
	fail_call(who, site, arg, result, before, after);
	return false;
}

/* --------------------------------------------------------------------- hammer */

/*
 * Drop the line with the site's first or its last byte from the caches. Where the
 * site straddles a line, its two parts are then fetched far apart in time, with all
 * of a poke in between if no sync forbids it.
 */
static void make_cold(const struct torture_site *s, bool first)
{
#ifdef __aarch64__
	(void)first;
	__asm__ volatile("dc civac, %0" : : "r"(s->insn) : "memory");
#else
	__builtin_ia32_clflush(s->insn + (first ? 0 : s->kind == TORTURE_JCC ? 5 : 4));
#endif
}

/* Mostly the site whose key is being updated; now and then any other. */
static void *hammer(void *arg)
{
	static const char *const names[] = {"thread 0", "thread 1", "thread 2"};
	size_t self = (size_t)(uintptr_t)arg;
	uint64_t random = 0x9e3779b97f4a7c15 * (self + 1);

	while (!atomic_load_explicit(&job.stop, memory_order_relaxed)) {
		size_t focus = atomic_load_explicit(&job.focus, memory_order_relaxed);
		uint32_t r = next_random(&random);
		bool other = job.batch || r % 8 == 0;
		size_t site = other ? (r >> 8) % TORTURE_SITES : focus;

		/* An emulator with one host thread goes to the next CPU then, not after its tenth
		 * of a second. */
		if (!CPU_HAS_TRAPS && r % 64 == 2)
			relax_cpu();
		if (r % 4 == 1)
			make_cold(site_at(site), (r >> 6) % 4 == 0);
		if (!call(names[self], site, (long)(r >> 4)))
			break;
		add(&stats->calls[self]);
		if (job.batch || site == focus)
			atomic_fetch_add_explicit(&hammered[self].calls, 1, memory_order_release);
	}
	return NULL;
}

/* -------------------------------------------------------------------- updater */

static const struct plan free_run;

/* Each thing to provoke, between free runs. One that reaches ahead comes before one. */
static const struct plan mixed[] = {
	{.hold = INT3},
	{0},
	{.hold = SYNC1},
	{.hold = TORN},
	{0},
	{.hold = TAILS},
	{.hold = SYNC2},
	{0},
	{.until = FIRST},
	{.until = SYNC3},
	{0},
	{.until = OVER},
	{.until = SYNC1, .ahead = 1},
	{0},
	{.until = FIRST, .ahead = 1},
	{0},
};

#define NR_MIXED (sizeof(mixed) / sizeof(mixed[0]))
_Static_assert(BURST % NR_MIXED == 0, "none reaches ahead into another key's update");

/*
 * Waits cost time slices where the CPUs are shared. When the budget is used up,
 * things are provoked in one burst out of 16 alone.
 */
static bool is_provoked(size_t burst, const struct timespec *start)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec - start->tv_sec < job.budget || burst % 16 == 0;
}

/* What can be provoked where nothing traps. A stop at a step that there is not is none. */
static const struct plan whole[] = {
	{.hold = FIRST}, {0}, {.hold = INT3}, {.hold = SYNC3}, {0}, {.hold = TAILS},
};

/* The plan for the nth update of a burst. */
static const struct plan *plan_for(size_t n)
{
	static const struct plan late = {.until = OVER};
	static const struct plan later = {.until = SYNC1, .ahead = 1};

	switch (job.provoke) {
	case MIXED:
		return &mixed[n % NR_MIXED];
	case WHOLE:
		return &whole[n % (sizeof(whole) / sizeof(whole[0]))];
	case LATE:
		return &late;
	case LATER:
		return n == BURST - 1 ? &free_run : &later;
	default:
		return &free_run;
	}
}

static bool update(size_t site, uint64_t *random)
{
	const struct torture_site *s = site_at(site);
	struct state *st = state_of(site);
	uint64_t u = load(&st->epoch) / 2 + 1;
	uint8_t old = st->history[(u - 1) % HISTORY];
	uint8_t new = (uint8_t)((old + 1 + next_random(random) % (TARGETS - 1)) % TARGETS);
	int ret;

	st->history[u % HISTORY] = new;
	atomic_store_explicit(&st->epoch, 2 * u - 1, memory_order_release);
	ret = __static_call_update(s->key, targets[new]);
	if (ret) {
		fail("static_call_update: %s: %s", strerror(-ret), shunt_last_error());
		return false;
	}
	atomic_store_explicit(&st->epoch, 2 * u, memory_order_release);
	hooks_over();
	add(&stats->updates);
	return call("the updater itself", site, (long)(next_random(random) | 1));
}

/* Whether the site's instruction has bytes in two cache lines. */
static bool straddles(size_t site)
{
	const struct torture_site *s = site_at(site);

	if (!CPU_HAS_TRAPS) /* none; the last word of a line */
		return (uintptr_t)s->insn % 64 == 60;
	return (uintptr_t)s->insn % 64 > (s->kind == TORTURE_JCC ? 58 : 59);
}

/* The nth burst's site: all in turn, and every other time only those that straddle. */
static size_t site_for(size_t n)
{
	static size_t last;
	size_t site = n / 2 % TORTURE_SITES;

	if (n % 2) {
		do
			last = (last + 1) % TORTURE_SITES;
		while (!straddles(last));
		site = last;
	}
	return site;
}

/* Let the threads get out of their handlers for a while, or not. */
static void pause_a_bit(uint64_t *random)
{
	uint32_t r = next_random(random);

	for (uint32_t i = r & 1 ? r % 1024 : 0; i; i--)
		relax_cpu();
}

static void *updater(void *unused)
{
	uint64_t random = 0x2545f4914f6cdd1d;
	struct timespec start;

	(void)clock_gettime(CLOCK_MONOTONIC, &start);
	for (size_t i = 0; !job.stop && load(&stats->updates) < job.updates; i++) {
		bool provoked = is_provoked(i, &start);
		size_t site = site_for(i);

		atomic_store_explicit(&job.focus, site, memory_order_relaxed);
		for (size_t n = 0; n < BURST && !job.stop; n++) {
			const struct plan *plan = provoked ? plan_for(n) : &free_run;

			hooks_plan(plan);
			if (!update(site, &random))
				break;
			if (!plan->hold && !plan->until)
				pause_a_bit(&random);
		}
	}
	atomic_store(&job.stop, true);
	return unused;
}

/* ------------------------------------------------------------------------ run */

static int count_inline(const struct shunt_site_info *info, void *arg)
{
	if (info->state != SHUNT_SITE_TRAMPOLINE)
		++*(size_t *)arg;
	return 0;
}

bool run(bool batch, enum provoke provoke, const struct control *control, uint64_t updates,
	 unsigned seconds)
{
	pthread_t threads[HAMMERS + 1];
	size_t inlined = 0;

	job.batch = batch;
	job.provoke = provoke;
	job.updates = updates;
	job.budget = seconds;
	(void)shunt_for_each_site(NULL, count_inline, &inlined);
	if (inlined != 2 * TORTURE_SITES)
		fail("%zu of %d sites are inline", inlined, 2 * TORTURE_SITES);
	if (!torture_make_targets(targets))
		fail("no targets: %s", strerror(errno));
	if (stats->failed)
		return false;
	hooks_start(control);
	for (size_t i = 0; i <= HAMMERS; i++)
		if (pthread_create(&threads[i], NULL, i < HAMMERS ? hammer : updater, (void *)i))
			fail("no thread");
	for (size_t i = 0; i <= HAMMERS && !stats->failed; i++)
		(void)pthread_join(threads[i], NULL);
	return !stats->failed;
}
