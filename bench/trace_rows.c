/* SPDX-License-Identifier: MIT */
/*
 * What tracing costs (`shunt bench trace`): the rows of what trace_main.c and trace_peer.c print.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "shunt-bench-trace"

static const char *const kinds[] = {"patchable", "fentry", "xray", "instrument"};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* How the rows of a kind are named: by what its functions are compiled with. */
static const char *const options[KINDS] = {"-fpatchable-function-entry", "-pg -mfentry",
					   "-fxray-instrument", "-finstrument-functions"};

static const char *threads_name(int threads)
{
	return threads == 1 ? "" : ", 2 threads";
}

/* The row @name of the samples @key, as a ratio to the row of the samples @floor (NULL: none). */
static void add(struct bench *b, const char *group, const char *unit, const struct bench_set *set,
		const char *key, const char *name, const char *floor, const char *floor_name)
{
	const struct bench_series *found = bench_find(set, key);
	const struct bench_series *to = floor ? bench_find(set, floor) : NULL;
	struct bench_series named, named_floor;

	if (!found || (floor && !to))
		return;
	named = *found;
	snprintf(named.name, sizeof(named.name), "%s", name);
	if (to) {
		named_floor = *to;
		snprintf(named_floor.name, sizeof(named_floor.name), "%s", floor_name);
	}
	bench_add(b, group, unit, &named, to ? &named_floor : NULL);
}

/* @format of samples and row: with the number of threads and the kind. */
struct line {
	const char *what, *name;
	const char *unit;
};

static void add_kinds(struct bench *b, const char *group, const struct bench_set *set,
		      const struct line *line, int threads, const char *floor,
		      const char *floor_name)
{
	char key[64], name[64];

	for (size_t k = 0; k < KINDS; k++) {
		snprintf(key, sizeof(key), "%d_%s_%s", threads, kinds[k], line->what);
		snprintf(name, sizeof(name), "%s%s%s", options[k], line->name,
			 threads_name(threads));
		add(b, group, line->unit, set, key, name, floor, floor_name);
	}
}

static const char *run(const struct bench *b, const char *mode, struct bench_set *set)
{
	memset(set, 0, sizeof(*set));
	return bench_program(b, PROGRAM, mode, NULL, "", set);
}

/* ------------------------------------------------------------------------ the groups */

static void off(struct bench *b, struct bench_set *set)
{
	static const struct line lines[] = {{"off", ", off", "ns/call"},
					    {"compiled", ", as compiled", "ns/call"}};
	const char *why = run(b, "off", set);

	if (why)
		bench_skip(b, "trace, off", "all", why);
	for (int threads = 1; threads <= 2 && !why; threads++) {
		char floor[64], key[32];

		snprintf(floor, sizeof(floor), "compiled without%s", threads_name(threads));
		snprintf(key, sizeof(key), "%d_plain", threads);
		add(b, "trace, off", "ns/call", set, key, floor, NULL, NULL);
		for (size_t i = 0; i < 2; i++)
			add_kinds(b, "trace, off", set, &lines[i], threads, key, floor);
	}
}

/* A group of rows: a floor, two lines for each kind, each as a ratio, and one row besides. */
struct group {
	const char *mode; /* of the program */
	const char *name;
	struct line floor;      /* keys of lines without a kind: behind the number of threads */
	struct line line;       /* to the floor */
	struct line more_floor; /* may be none */
	struct line more;       /* to that */
	struct line besides[2]; /* up to one that is none */
};

/* The row of @line, which is of no kind, and in @key and @name what it is called. */
static void add_line(struct bench *b, const struct group *g, const struct bench_set *set,
		     const struct line *line, int threads, char (*key)[64], char (*name)[64])
{
	snprintf(*key, sizeof(*key), "%d_%s", threads, line->what);
	snprintf(*name, sizeof(*name), "%s%s", line->name, threads_name(threads));
	add(b, g->name, line->unit, set, *key, *name, NULL, NULL);
}

static void add_group(struct bench *b, struct bench_set *set, const struct group *g)
{
	const char *why = run(b, g->mode, set);

	if (why)
		bench_skip(b, g->name, "all", why);
	for (int threads = 1; threads <= 2 && !why; threads++) {
		char key[64], name[64];

		add_line(b, g, set, &g->floor, threads, &key, &name);
		add_kinds(b, g->name, set, &g->line, threads, key, name);
		if (g->more_floor.what)
			add_line(b, g, set, &g->more_floor, threads, &key, &name);
		add_kinds(b, g->name, set, &g->more, threads, g->more_floor.what ? key : NULL,
			  name);
		for (size_t i = 0; i < 2 && g->besides[i].what; i++)
			add_line(b, g, set, &g->besides[i], threads, &key, &name);
	}
}

static void callbacks(struct bench *b, struct bench_set *set)
{
	static const struct group group = {
		.mode = "callbacks",
		.name = "trace, callback",
		.floor = {"plain", "compiled without", "ns/call"},
		.line = {"count", ", counts", "ns/call"},
		.more_floor = {"bare_above", "a bare stub, counts, above", "ns"},
		.more = {"count_above", ", counts, above", "ns"},
		.besides = {{"bare", "a bare stub, counts", "ns/call"},
			    {"patchable_full", "counts, vector registers saved", "ns/call"}},
	};

	add_group(b, set, &group);
}

static void recorded(struct bench *b, struct bench_set *set)
{
	static const struct group group = {
		.mode = "recorded",
		.name = "trace, recorded",
		.floor = {"clock", "two clock reads", "ns/call"},
		.line = {"flight", ", recorded", "ns/call"},
		.more = {"beyond", ", beyond two reads", "ns"},
		.besides = {{"patchable_all", "-fpatchable-function-entry, all kept", "ns/call"}},
	};

	add_group(b, set, &group);
}

static void one_switch(struct bench *b, const struct bench_set *set, int n, const char *company,
		       const char *company_name)
{
	char key[64], name[64], floor[64], floor_name[64];

	for (int on = 1; on >= 0; on--) {
		const char *way = on ? "on" : "off";

		snprintf(floor, sizeof(floor), "%d_poke_%s_%s", n, way, company);
		snprintf(floor_name, sizeof(floor_name), "%d: text_poke_bp_batch, %s%s", n, way,
			 company_name);
		add(b, "trace, switch", "ns/function", set, floor, floor_name, NULL, NULL);
		snprintf(key, sizeof(key), "%d_trace_%s_%s", n, way, company);
		snprintf(name, sizeof(name), "%d: functions, %s%s", n, way, company_name);
		add(b, "trace, switch", "ns/function", set, key, name, floor, floor_name);
	}
}

static void switches(struct bench *b, struct bench_set *set)
{
	const char *why = run(b, "switch", set);

	if (why) {
		bench_skip(b, "trace, switch", "all", why);
		return;
	}
	for (int n = 10; n <= 10000; n *= 1000) {
		one_switch(b, set, n, "alone", ", alone");
		one_switch(b, set, n, "thread", ", a thread in them");
	}
	add(b, "trace, switch", "ns/function", set, "10000_found", "10000: found in the file", NULL,
	    NULL);
	add(b, "trace, switch", "ns/function", set, "10000_first", "10000: on, the first time",
	    NULL, NULL);
}

static void memory(struct bench *b, struct bench_set *set)
{
	static const char *const rows[][3] = {
		{"function_known", "a function that can be traced", "bytes"},
		{"function_traced", "a function that is traced", "bytes"},
		{"thread_callbacks", "a thread in which a callback ran", "bytes"},
		{"thread_recorded", "a thread with one event", "bytes"},
	};
	const char *why = run(b, "memory", set);

	if (why)
		bench_skip(b, "trace, memory", "all", why);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && !why; i++)
		add(b, "trace, memory", rows[i][2], set, rows[i][0], rows[i][1], NULL, NULL);
}

/* ------------------------------------------------------------------------- the peers */

static bool is_installed(const char *program)
{
	const char *path = getenv("PATH");
	char file[4096];

	while (path && *path) {
		size_t len = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)len, path, program);
		if (!access(file, X_OK))
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* Each measures itself with the same loop, and a function that is not traced. */
static void peers(struct bench *b, struct bench_set *set)
{
	static const struct {
		const char *mode, *program, *name, *needs;
	} all[] = {
		{"uftrace", "shunt-bench-peer", "uftrace record", "uftrace"},
		{"basic", "shunt-bench-peer-xray", "LLVM XRay, basic mode", NULL},
		{"fdr", "shunt-bench-peer-xray", "LLVM XRay, FDR mode", NULL},
		{"uprobe", "shunt-bench-peer", "uprobe that counts", NULL},
		{"uretprobe", "shunt-bench-peer", "uretprobe that counts", NULL},
		{"int3", "shunt-bench-peer", "int3 and SIGTRAP that counts", NULL},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *why = NULL;

		memset(set, 0, sizeof(*set));
		if (all[i].needs && !is_installed(all[i].needs))
			why = "not installed";
		if (!why)
			why = bench_program(b, all[i].program, all[i].mode, NULL, "", set);
		if (!why && !bench_find(set, "call"))
			why = "not to be had here";
		if (why)
			bench_skip(b, "trace, peers", all[i].name, why);
		else
			add(b, "trace, peers", "ns/call", set, "call", all[i].name, "clock",
			    "two clock reads");
	}
}

void bench_trace(struct bench *b)
{
	struct bench_set *set = calloc(1, sizeof(*set));

	if (!set)
		return;
	off(b, set);
	callbacks(b, set);
	recorded(b, set);
	peers(b, set);
	switches(b, set);
	memory(b, set);
	free(set);
}
