/* SPDX-License-Identifier: MIT */
/* All measurements, one after the other, and their results. */
#include "bench.h"

#include <errno.h>
#include <limits.h>
#include <shunt/inspect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The two CPUs that are used: the first two of those that are allowed. */
static void choose_cpus(struct bench *b)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		CPU_ZERO(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET((size_t)cpu, &set))
			b->cpu[n++] = cpu;
	b->has_two = n == 2;
}

/* A message on the progress, which is not part of the results. */
static void now(const char *what)
{
	fprintf(stderr, "shunt bench: %s\n", what);
}

static int write_files(const struct bench *b, const char *json, const char *svg)
{
	int err = json ? bench_write_json(b, json) : 0;

	if (err) {
		fprintf(stderr, "shunt bench: %s: %s\n", json, strerror(-err));
		return err;
	}
	err = svg ? bench_write_svg(b, svg) : 0;
	if (err)
		fprintf(stderr, "shunt bench: %s: %s\n", svg, strerror(-err));
	return err;
}

/* Whether the results can be written where they are to go: before minutes are spent on them. */
static int try_file(const char *path)
{
	FILE *f = path ? fopen(path, "ae") : NULL;

	if (!path)
		return 0;
	if (!f) {
		fprintf(stderr, "shunt bench: %s: %s\n", path, strerror(errno));
		return -1;
	}
	return fclose(f) ? -1 : 0;
}

int bench_all(bool quick, bool trace, const char *json, const char *svg)
{
	static const struct {
		const char *what;
		void (*measure)(struct bench *b);
		bool trace;
	} measures[] = {
		{"calls", bench_calls, false},
		{"branches", bench_branches, false},
		{"forms", bench_flips, false},
		{"updates", bench_updates, false},
		{"many sites", bench_sites, false},
		{"hammered site", bench_hammer, false},
		{"start-up and memory", bench_startup, false},
		{"tracing", bench_trace, true},
	};
	const char *wish = getenv("SHUNT_BENCH_DIR");
	struct bench b = {.quick = quick};
	static char dir[PATH_MAX];
	int err;

	if (try_file(json) || try_file(svg))
		return -1;
	b.dir = realpath(wish ? wish : BENCH_DIR, dir) ? dir : BENCH_DIR;
	choose_cpus(&b);
	b.load_before = bench_load();
	bench_pin(b.cpu[0]);
	for (size_t i = 0; i < sizeof(measures) / sizeof(measures[0]); i++) {
		if (measures[i].trace != trace)
			continue;
		now(measures[i].what);
		measures[i].measure(&b);
	}
	bench_print(&b);
	err = write_files(&b, json, svg);
	if (b.failed)
		fprintf(stderr, "shunt bench: a measurement failed; %s\n", shunt_last_error());
	free(b.rows);
	return err ? err : b.failed ? -1 : 0;
}
