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
#include <stdatomic.h>
#include <stdint.h>
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

/* To the second value and back, executed at each step. Says only what is wrong. */
static void try_form(struct report *r, const struct form *form)
{
	uint64_t before = traps();
	bool right;
	int ret;

	during_sync.runs = during_sync.wrong = 0;
	during_sync.form = form;
	ret = form->change(true);
	right = form->run(X) == form->second;
	if (!ret)
		ret = form->change(false);
	during_sync.form = NULL;
	right = right && form->run(X) == form->first;
	before = traps() - before;
	totals.runs += during_sync.runs;
	totals.traps += (unsigned long)before;
	if (ret)
		report_line(r, "MISSING", form->name, "%s", shunt_last_error());
	else if (!right || during_sync.wrong)
		report_line(r, "MISSING", form->name, "wrong result, %lu of %lu while poked",
			    during_sync.wrong, during_sync.runs);
	else if (uses_traps() && !before)
		report_line(r, "MISSING", form->name,
			    "executed %lu time%s while poked, but no trap came", during_sync.runs,
			    tool_plural(during_sync.runs));
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

static void try_threads(struct report *r)
{
	uint64_t before = traps();
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, hammer_main, NULL);

	if (ret) {
		report_line(r, "MISSING", "two threads", "pthread_create: %s", strerror(ret));
		return;
	}
	ret = update_all(&totals.updates);
	atomic_store(&hammer.stop, true);
	(void)pthread_join(thread, NULL);
	totals.calls = hammer.runs;
	totals.traps += (unsigned long)(traps() - before);
	if (ret)
		report_line(r, "MISSING", "two threads", "%s", shunt_last_error());
	else if (hammer.wrong)
		report_line(r, "MISSING", "two threads", "wrong calls: %lu of %lu", hammer.wrong,
			    hammer.runs);
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

/* That the sites are those that this program means to try. */
static void try_sites(struct report *r)
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

/* In the place of policies: each comes to it, for what is only switched on and off. */
#define ONLY_SWITCHES (1u << 31)

const struct way ways[WAYS] = {
	{"alone", SHUNT_POKE_AUTO, 0, true},
	{"remap", SHUNT_POKE_REMAP, 1 << SHUNT_POKE_REMAP | 1 << SHUNT_POKE_AUTO, true},
	{"int3", SHUNT_POKE_INT3,
	 1 << SHUNT_POKE_INT3 | 1 << SHUNT_POKE_AUTO | 1 << SHUNT_POKE_ATOMIC, true},
	{"atomic", SHUNT_POKE_ATOMIC, 1 << SHUNT_POKE_ATOMIC, true},
	{"flip", SHUNT_POKE_AUTO, ONLY_SWITCHES, false},
};

void try_way(struct report *r, const struct way *way)
{
	struct shunt_ways used;
	size_t tried = 0;

	if (shunt_set_poke(way->policy))
		report_line(r, "MISSING", way->name, "no such policy");
	no_flips = way->policies != ONLY_SWITCHES;
	if (way == ways || !SHUNT_HAS_TRAPS)
		try_sites(r);
	for (size_t i = 0; i < nr_forms && !no_flips && !r->missing; i++)
		if (is_tried(&forms[i]) && (forms[i].change(true) || forms[i].change(false)))
			report_line(r, "MISSING", forms[i].name, "%s", shunt_last_error());
	for (size_t i = 0; i < nr_forms && !r->missing; i++)
		if (is_tried(&forms[i]))
			try_form(r, &forms[i]);
	if (r->missing)
		return;
	shunt_get_ways(&used);
	if (strcmp(used.poke, way->name) != 0)
		report_line(r, "MISSING", way->name, "it went by way of %s: %s", used.poke,
			    used.why ? used.why : "not known why");
	else if (way->policies) /* else there is to be one thread alone */
		try_threads(r);
	shunt_get_ways(&used);
	for (size_t i = 0; i < nr_forms; i++)
		tried += is_tried(&forms[i]);
	if (!r->missing)
		report_line(r, "ok", way->name,
			    "%zu form%s, executed %lu time%s while poked; %lu update%s under %lu "
			    "call%s; %lu trap%s; write: %s; core sync: %s",
			    tried, tool_plural(tried), totals.runs, tool_plural(totals.runs),
			    totals.updates, tool_plural(totals.updates), totals.calls,
			    tool_plural(totals.calls), totals.traps, tool_plural(totals.traps),
			    used.write, used.sync);
}
