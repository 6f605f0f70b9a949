/* SPDX-License-Identifier: MIT */
/*
 * `shunt selftest`: whether live patching works on this machine, with this kernel,
 * in this container. It looks at what the kernel allows (selftest_system.c), then pokes sites of
 * its own of every form (selftest_forms.c), in each way of poking (selftest_ways.c), and executes
 * each while it is poked, for real; then it traces a function of each kind of entry
 * (selftest_trace.c). A trap that is not handled ends a process, so all of this happens in a
 * child, one for each way and kind (selftest_child.c).
 *
 * What a line begins with (selftest.h) is decided where it is seen. A way that is not to be had is
 * "no", not MISSING, for another may serve: which is seen at the end, of all of them.
 */
#include "selftest.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "selftest_parts.h"
#include "shunt.h"

#define USAGE                                                                 \
	"selftest\n"                                                          \
	"Try on this machine whether sites can be poked while they execute. " \
	"Exit status 0: yes.\n"                                               \
	"\n"                                                                  \
	"example:\n"                                                          \
	"  shunt selftest"

static enum shunt_poke_policy policy_named(const char *name)
{
	static const char *const names[] = {
		[SHUNT_POKE_INT3] = "int3",
		[SHUNT_POKE_REMAP] = "remap",
		[SHUNT_POKE_ATOMIC] = "atomic",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && !strcmp(name, names[i]))
			return (enum shunt_poke_policy)i;
	return SHUNT_POKE_AUTO;
}

/* Each way. The first that works of those that @policy comes to, or NULL. */
static const char *report_ways(struct report *r, enum shunt_poke_policy policy)
{
	const char *works = NULL;

	for (const struct way *w = ways; w->name; w++) {
		struct attempt a = {w->name, try_way, w, "MISSING", "-"};

		if (try_in_child(r, &a) && w->policies >> policy & 1 && !works)
			works = w->name;
	}
	return works;
}

static void report_tracing(struct report *r)
{
	for (const struct traced *t = traced; t->name; t++) {
		struct attempt a = {t->name, try_traced, t, "MISSING", "MISSING"};

		(void)try_in_child(r, &a);
	}
}

int selftest_run(void (*say)(const char *line, void *arg), void *arg)
{
	struct report r = {.say = say, .arg = arg};
	const char *works;
	struct shunt_ways now;

	report_system(&r);
	report_sites(&r);
	shunt_get_ways(&now);
	works = report_ways(&r, policy_named(now.policy));
	report_tracing(&r);
	if (works)
		report_line(&r, "ok", "poking", "works by way of %s (policy %s)", works,
			    now.policy);
	else
		report_line(&r, "MISSING", "poking", "no way was seen to work (policy %s)",
			    now.policy);
	return r.missing;
}

/* ---------------------------------------------------------------------- the command */

static void say_to_stdout(const char *line, void *arg)
{
	(void)arg;
	(void)puts(line);
	(void)fflush(stdout); /* before a fork, and in case the machine dies */
}

int cmd_selftest(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c != 'h')
			return tool_usage(USAGE);
		(void)puts("usage: shunt " USAGE);
		return 0;
	}
	if (optind != argc) {
		tool_complain("no argument is expected: %s", argv[optind]);
		return tool_usage(USAGE);
	}
	return selftest_run(say_to_stdout, NULL) ? 1 : 0;
}
