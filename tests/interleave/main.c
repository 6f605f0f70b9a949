/* SPDX-License-Identifier: MIT */
/*
 * The cases of the interleaving test, one line each, and the negative controls: the
 * same exploration with a protection taken out, which must find what comes of it.
 *
 *	interleave          every kind of site, across the end of a page (and so of a
 *	                    cache line), through two updates: there and back or on
 *	interleave --all    every kind in every place, through three updates
 *	interleave --some   a call and a branch, as the first does
 *
 * Each case is complete in itself: nothing is drawn by lot, nothing left out.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../api/tap.h"
#include "interleave.h"

/* Which protection, in which case, and what is seen. */
static const struct {
	enum il_control control;
	const char *name, *in, *seen;
} controls[] = {
	{IL_NO_RETRY, "a late trap goes on behind the int3", "call", "not the effect"},
	{IL_NO_RETRY_FOREIGN, "a late trap is passed on", "call", "taken for foreign"},
	{IL_NO_INT3, "no int3", "call", "not the effect"},
	{IL_NO_INT3, "no int3", "branch of 5 bytes", "not the effect"},
	{IL_COMMIT_FIRST, "the commit before the int3", "call",
	 "not the effect of versions 1 to 1"},
	{IL_EARLY_RELEASE, "the mark taken away before the int3", "call", "taken for foreign"},
	{IL_NO_SECOND_LOOK, "an unmarked int3 not looked at again", "call", "taken for foreign"},
	{IL_TAILS_LAST, "the tails behind the first bytes", "call or RET0", "not the effect"},
};

/* All on one CPU: threads that take turns need no other, and its number is no state. */
static void stay_on_one_cpu(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)(cpu < 0 ? 0 : cpu), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static void run_case(const struct il_case *c, unsigned versions, struct il_result *all)
{
	struct il_result r;
	bool good = il_explore(c, versions, IL_WHOLE, &r);
	unsigned least = 0;

	/* What is switched off is so by a flip: a write, the commit, a sync. */
	for (unsigned v = 1; v < versions; v++)
		least += c->values[v] == IL_NULL ? 8 : 20;
	/* A test that met no trap has shown nothing. */
	if (good && (!r.emulated || !r.late || r.steps < least)) {
		good = false;
		(void)snprintf(r.failure, sizeof(r.failure), "too little was met");
	}
	ok(good,
	   "%s (%s): %u steps, %u states, %llu combinations, %llu instructions, %llu traps "
	   "emulated, %llu late, %llu calls over",
	   c->name, c->place, r.steps, r.states, (unsigned long long)r.combinations,
	   (unsigned long long)r.instructions, (unsigned long long)r.emulated,
	   (unsigned long long)r.late, (unsigned long long)r.ended);
	if (!good)
		diag("%s", r.failure);
	all->combinations += r.combinations;
	all->instructions += r.instructions;
}

static const struct il_case *case_of(const char *name, const char *place)
{
	for (size_t i = 0; i < il_nr_cases; i++)
		if (!strcmp(il_cases[i].name, name) && !strcmp(il_cases[i].place, place))
			return &il_cases[i];
	return NULL;
}

static void run_controls(void)
{
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		const struct il_case *c = case_of(controls[i].in, "line");
		struct il_result r;
		bool good = c && il_explore(c, IL_VERSIONS, controls[i].control, &r);

		ok(c && !good && strstr(r.failure, controls[i].seen),
		   "%s (%s): seen at step %u: %s", controls[i].name, controls[i].in,
		   c ? r.steps : 0,
		   !c     ? "no such case"
		   : good ? "nothing"
			  : r.failure);
	}
}

/* Whether this process may trace a child at all. */
static bool can_trace(void)
{
	struct il_result r;

	return il_explore(&il_cases[0], 1, IL_WHOLE, &r) || !r.skipped;
}

/* It is this way to poke that has steps. The library looks before main() does. */
static void use_int3(char **argv)
{
	const char *way = getenv("SHUNT_POKE");

	if (way && !strcmp(way, "int3"))
		return;
	if (!setenv("SHUNT_POKE", "int3", 1))
		(void)execv("/proc/self/exe", argv);
	exit(2);
}

static bool is_of_some(const struct il_case *c)
{
	return !strcmp(c->name, "call or nop") || !strcmp(c->name, "branch of 5 bytes");
}

int main(int argc, char **argv)
{
	bool everything = argc > 1 && !strcmp(argv[1], "--all");
	bool some = argc > 1 && !strcmp(argv[1], "--some");
	struct il_result all = {0};

	use_int3(argv);
	stay_on_one_cpu();
	if (!can_trace()) {
		skip("interleave", "no ptrace");
		return tap_done();
	}
	for (size_t i = 0; i < il_nr_cases; i++)
		if (everything ||
		    (!strcmp(il_cases[i].place, "page") && (!some || is_of_some(&il_cases[i]))))
			run_case(&il_cases[i], everything ? IL_VERSIONS : 3, &all);
	diag("together %llu combinations, %llu instructions", (unsigned long long)all.combinations,
	     (unsigned long long)all.instructions);
	run_controls();
	return tap_done();
}
