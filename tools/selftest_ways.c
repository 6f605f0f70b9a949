/* SPDX-License-Identifier: MIT */
/*
 * The self-test: sites are executed while they are poked, in each way of poking.
 *
 * To hit that moment without luck, and on one CPU too, the program is linked with
 * --wrap=shunt_port_core_sync: behind each core sync of an update, when the int3 is
 * in place, the updating thread itself runs through the site. Then a second thread
 * does so for a while as it comes.
 */
#include "selftest_parts.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/site.h"
#include "shunt.h"

static bool is_right(const struct form *form, long result)
{
	return result == form->first || result == form->second;
}

/* The form that is executed behind each core sync, and how that went. */
static struct {
	const struct form *form;
	unsigned long runs, wrong;
} during_sync;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();

	if (during_sync.form) {
		during_sync.runs++;
		during_sync.wrong += !is_right(during_sync.form, during_sync.form->run(X));
	}
	return ret;
}

/* On: what could be switched by one byte goes by the way that is being tried, too. */
static bool no_flips;

struct shunt_poke;
bool __real_shunt_poke_is_flip(const struct shunt_poke *poke);
bool __wrap_shunt_poke_is_flip(const struct shunt_poke *poke);

bool __wrap_shunt_poke_is_flip(const struct shunt_poke *poke)
{
	return !no_flips && __real_shunt_poke_is_flip(poke);
}

int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);

/* Without traps every batch goes by flips first, whatever is in it. Here as where they fail. */
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	if (no_flips && !SHUNT_HAS_TRAPS)
		tried |= 1u << SHUNT_WAY_FLIP;
	return __real_shunt_port_poke_begin(n, flips, tried);
}

/* Whether the form is tried in the way that is tried now. */
static bool is_tried(const struct form *form)
{
	return form->is_flip || no_flips || !SHUNT_HAS_TRAPS;
}

static uint64_t traps(void)
{
	struct shunt_stats stats;

	shunt_get_stats(&stats);
	return stats.traps;
}

/* Whether updates are made by way of int3, so that traps are to be seen. */
static bool uses_traps(void)
{
	struct shunt_ways used;

	shunt_get_ways(&used);
	return !strcmp(used.poke, "int3");
}

/* What a way has done, for its line. */
static struct {
	unsigned long runs, traps;    /* of sites, while they were poked */
	unsigned long updates, calls; /* with a second thread */
} totals;

/* What of the way that is tried did not go as it should: of the first thing, a line. */
static struct {
	const char *verdict; /* NULL: nothing */
	char details[300];
} found;

static __attribute__((format(printf, 2, 3))) void find(const char *verdict, const char *format, ...)
{
	va_list args;

	if (found.verdict)
		return;
	found.verdict = verdict;
	va_start(args, format);
	(void)vsnprintf(found.details, sizeof(found.details), format, args);
	va_end(args);
}

/* An update has failed, and changed nothing: this way is not to be had. */
static void find_failed(const char *what)
{
	const char *why = shunt_last_error();

	find("no", "%s: %s", what, *why ? why : "not known why");
}

/* Whether @change to the form's second or first value went well; else it has the other one. */
static bool is_changed(const struct form *form, bool second, bool *right)
{
	bool changed = !form->change(second);

	*right = *right && form->run(X) == (second == changed ? form->second : form->first);
	return changed;
}

/* To the second value and back, executed at each step. */
static void try_form(const struct form *form)
{
	uint64_t before = traps();
	bool right = true, changed;

	during_sync.runs = during_sync.wrong = 0;
	during_sync.form = form;
	changed = is_changed(form, true, &right) && is_changed(form, false, &right);
	during_sync.form = NULL;
	before = traps() - before;
	totals.runs += during_sync.runs;
	totals.traps += (unsigned long)before;
	if (!right || during_sync.wrong)
		find("MISSING", "%s: wrong result, %lu of %lu while poked", form->name,
		     during_sync.wrong, during_sync.runs);
	else if (!changed)
		find_failed(form->name);
	else if (uses_traps() && !before)
		find("MISSING", "%s: executed %lu time%s while poked, but no trap came", form->name,
		     during_sync.runs, tool_plural(during_sync.runs));
}

/* What the second thread does until it is told to stop. */
static struct {
	_Atomic bool stop;
	_Atomic unsigned long runs, wrong;
} hammer;

static void *hammer_main(void *unused)
{
	while (!atomic_load(&hammer.stop)) {
		for (size_t i = 0; i < nr_forms; i++)
			if (!is_right(&forms[i], forms[i].run(X)))
				atomic_fetch_add(&hammer.wrong, 1);
		atomic_fetch_add(&hammer.runs, nr_forms);
	}
	return unused;
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Updates until 100 traps have come, but at least for a tenth, at most for one second. */
static int update_all(unsigned long *updates)
{
	uint64_t start = traps();
	double begin = now(), elapsed = 0;
	int ret = 0;

	while (!ret && elapsed < 1 && (elapsed < 0.1 || traps() - start < 100)) {
		for (size_t i = 0; i < nr_forms && !ret; i++) {
			if (!is_tried(&forms[i]))
				continue;
			ret = forms[i].change(true);
			if (!ret)
				ret = forms[i].change(false);
			*updates += 2;
		}
		elapsed = now() - begin;
	}
	return ret;
}

static void try_threads(void)
{
	uint64_t before = traps();
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, hammer_main, NULL);

	if (ret) {
		find("no", "two threads: pthread_create: %s", strerror(ret));
		return;
	}
	ret = update_all(&totals.updates);
	atomic_store(&hammer.stop, true);
	(void)pthread_join(thread, NULL);
	totals.calls = hammer.runs;
	totals.traps += (unsigned long)(traps() - before);
	if (hammer.wrong)
		find("MISSING", "two threads: wrong calls: %lu of %lu", hammer.wrong, hammer.runs);
	else if (ret)
		find_failed("two threads");
}

/* Those of x86-64; on another CPU they may be one. */
struct branch_lengths {
	bool two, five;
};

static int note_length(const struct shunt_site_info *info, void *arg)
{
	struct branch_lengths *lengths = arg;

	lengths->two |= info->len == shunt_site_len(SHUNT_KIND_BRANCH2);
	lengths->five |= info->len == shunt_site_len(SHUNT_KIND_BRANCH);
	return 0;
}

static int note_trampoline(const struct shunt_site_info *info, void *arg)
{
	*(size_t *)arg += info->state == SHUNT_SITE_TRAMPOLINE;
	return 0;
}

void report_sites(struct report *r)
{
	struct branch_lengths lengths = {false, false};
	size_t on_trampoline = 0;

	if (shunt_for_each_site("selftest_short", note_length, &lengths) ||
	    shunt_for_each_site("selftest_long", note_length, &lengths) ||
	    shunt_for_each_site("selftest", note_trampoline, &on_trampoline))
		report_line(r, "MISSING", "sites", "%s", shunt_last_error());
	else if (on_trampoline)
		report_line(r, "MISSING", "sites", "%zu stayed on the trampoline", on_trampoline);
	else if (!lengths.two || !lengths.five)
		report_line(r, "MISSING", "sites", "no branch of %d bytes", lengths.two ? 5 : 2);
	else
		report_line(r, "ok", "sites", "all are found and direct");
}

#define TAKES(policy) (1u << SHUNT_POKE_##policy)

const struct way ways[] = {
#if SHUNT_HAS_TRAPS
	{"alone", SHUNT_POKE_AUTO, 0},
	{"remap", SHUNT_POKE_REMAP, TAKES(REMAP) | TAKES(AUTO)},
	{"int3", SHUNT_POKE_INT3, TAKES(INT3) | TAKES(AUTO) | TAKES(ATOMIC)},
	{"atomic", SHUNT_POKE_ATOMIC, TAKES(ATOMIC)},
	{"flip", SHUNT_POKE_AUTO, 0}, /* each comes to it, for what is only switched on and off */
#else
	{"flip", SHUNT_POKE_AUTO, TAKES(AUTO) | TAKES(INT3) | TAKES(REMAP) | TAKES(ATOMIC)},
	{"remap", SHUNT_POKE_REMAP, TAKES(REMAP) | TAKES(AUTO)},
	{"atomic", SHUNT_POKE_ATOMIC, TAKES(ATOMIC) | TAKES(INT3) | TAKES(AUTO)},
#endif
	{NULL, SHUNT_POKE_AUTO, 0},
};

static bool is(const struct way *way, const char *name)
{
	return !strcmp(way->name, name);
}

/* A trap would be the end of this process. */
static bool is_sigtrap_blocked(void)
{
	sigset_t blocked;

	return !pthread_sigmask(SIG_BLOCK, NULL, &blocked) && sigismember(&blocked, SIGTRAP) > 0;
}

static void poke_by(const struct way *way)
{
	bool has_traps = SHUNT_HAS_TRAPS && (is(way, "int3") || is(way, "atomic"));
	struct shunt_ways used;

	if (has_traps && is_sigtrap_blocked())
		find("no", "SIGTRAP is blocked");
	else if (shunt_set_poke(way->policy))
		find("no", "no such policy");
	if (found.verdict)
		return;
	no_flips = !is(way, "flip");
	/* A call that has been on is a flip from then on. */
	for (size_t i = 0; i < nr_forms && !no_flips && !found.verdict; i++)
		if (is_tried(&forms[i]) && (forms[i].change(true) || forms[i].change(false)))
			find_failed(forms[i].name);
	for (size_t i = 0; i < nr_forms && !found.verdict; i++)
		if (is_tried(&forms[i]))
			try_form(&forms[i]);
	if (found.verdict)
		return;
	shunt_get_ways(&used);
	if (!is(way, used.poke))
		find("no", "updates go by way of %s: %s", used.poke,
		     used.why ? used.why : "not known why");
	else if (!is(way, "alone"))
		try_threads();
}

void try_way(struct report *r, const struct attempt *a)
{
	const struct way *way = a->what;
	struct shunt_ways used;
	size_t tried = 0;

	poke_by(way);
	if (found.verdict) {
		report_line(r, found.verdict, way->name, "%s", found.details);
		return;
	}
	shunt_get_ways(&used);
	for (size_t i = 0; i < nr_forms; i++)
		tried += is_tried(&forms[i]);
	/* A remap writes to its copies of the pages, by either writer. */
	report_line(r, "ok", way->name,
		    "%zu form%s, executed %lu time%s while poked; %lu update%s under %lu "
		    "call%s; %lu trap%s; %s%s%score sync: %s",
		    tried, tool_plural(tried), totals.runs, tool_plural(totals.runs),
		    totals.updates, tool_plural(totals.updates), totals.calls,
		    tool_plural(totals.calls), totals.traps, tool_plural(totals.traps),
		    is(way, "remap") ? "" : "write: ", is(way, "remap") ? "" : used.write,
		    is(way, "remap") ? "" : "; ", used.sync);
}
