/* SPDX-License-Identifier: MIT */
/*
 * (d) What an update costs a site, from 1 to 100,000 of them, in one update and one by
 * one; in text that lies close, and spread over 16 MiB; through /proc/self/mem and
 * through mprotect. (h) And what XRay takes for as many places.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A series of the programs, and the rows that it becomes: alone, and with a thread. */
struct row {
	const char *series; /* without "_SITES_COMPANY" */
	const char *name;
	const char *floor;    /* the series that the ratio is to, or NULL */
	const char *lines[2]; /* of the plot, or NULL */
	size_t only;          /* this number of sites alone; 0: all */
};

static const struct row table[] = {
	{"mem:each", "one poke a site", NULL, {"one poke a site", "one poke a site, a thread"}, 0},
	{"mem:update", "one update", "mem:each", {"one update", "one update, a thread"}, 0},
	{"mem:batch", "text_poke_bp_batch", "mem:each", {NULL, NULL}, 0},
	{"mprotect:update",
	 "one update, mprotect",
	 "mem:each",
	 {"one update, mprotect", "one update, mprotect, a thread"},
	 0},
	{"spread:each", "16 MiB, one poke a site", NULL, {NULL, NULL}, 100000},
	{"spread:update", "16 MiB, one update", "spread:each", {NULL, NULL}, 100000},
	{"spread:batch", "16 MiB, text_poke_bp_batch", "spread:each", {NULL, NULL}, 100000},
	{"spread-mprotect:update",
	 "16 MiB, one update, mprotect",
	 "spread:each",
	 {NULL, NULL},
	 100000},
	{"branches:floor", "floor, branches", NULL, {NULL, NULL}, 100000},
	{"branches:switch",
	 "one switch, branches",
	 "branches:floor",
	 {"one switch", "one switch, a thread"},
	 0},
	{"spread-branches:floor", "16 MiB, floor, branches", NULL, {NULL, NULL}, 100000},
	{"spread-branches:switch",
	 "16 MiB, one switch, branches",
	 "spread-branches:floor",
	 {NULL, NULL},
	 100000},
	{"peer:xray",
	 "LLVM XRay (no core sync)",
	 "mem:update",
	 {"LLVM XRay", "LLVM XRay, a thread"},
	 0},
};

static const struct bench_series *find(const struct bench_set *set, const char *series,
				       size_t sites, const char *company)
{
	/* Where these were not taken at exactly this number, at the next that was. */
	size_t instead = strstr(series, ":each") ? sites / 5 : sites == 1 ? 2 : sites;
	char name[64];
	const struct bench_series *s;

	snprintf(name, sizeof(name), "%s_%zu_%s", series, sites, company);
	s = bench_find(set, name);
	if (s)
		return s;
	snprintf(name, sizeof(name), "%s_%zu_%s", series, instead, company);
	return bench_find(set, name);
}

static const char *name_of(const char *series)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcmp(table[i].series, series))
			return table[i].name;
	return series;
}

static void add_row(struct bench *b, const struct bench_set *set, const struct row *r, size_t sites,
		    bool beside)
{
	const char *company = beside ? "thread" : "alone";
	const struct bench_series *s = find(set, r->series, sites, company);
	const struct bench_series *floor = r->floor ? find(set, r->floor, sites, company) : NULL;
	struct bench_series named, named_floor;
	struct bench_row *row;

	if (!s)
		return;
	named = *s;
	snprintf(named.name, sizeof(named.name), "%zu: %s, %s", sites, r->name,
		 beside ? "a thread" : "alone");
	if (floor) {
		named_floor = *floor;
		snprintf(named_floor.name, sizeof(named_floor.name), "%s", name_of(r->floor));
	}
	row = bench_add(b, "sites", "ns/site", &named, floor ? &named_floor : NULL);
	row->x = (double)sites;
	row->line = r->lines[beside];
}

static void add_rows(struct bench *b, const struct bench_set *set)
{
	static const size_t sizes[] = {1, 10, 1000, 100000};

	for (size_t i = 0; i < 4; i++)
		for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++) {
			if (table[t].only && table[t].only != sizes[i])
				continue;
			add_row(b, set, &table[t], sizes[i], false);
			add_row(b, set, &table[t], sizes[i], true);
		}
}

void bench_sites(struct bench *b)
{
	static const struct {
		const char *program, *mode, *env, *prefix;
	} runs[] = {
		{"shunt-bench-sites", "update", NULL, "mem:"},
		{"shunt-bench-sites", "batch", "SHUNT_WRITE=mprotect", "mprotect:"},
		{"shunt-bench-spread", "update", NULL, "spread:"},
		{"shunt-bench-spread", "batch", "SHUNT_WRITE=mprotect", "spread-mprotect:"},
		{"shunt-bench-branches", "", NULL, "branches:"},
		{"shunt-bench-branches-spread", "", NULL, "spread-branches:"},
		{"shunt-bench-xray", "", NULL, "peer:"},
	};
	enum { RUNS = sizeof(runs) / sizeof(runs[0]) };
	struct bench_set *set = calloc(1, sizeof(*set));
	const char *why[RUNS] = {NULL};
	size_t rounds = b->quick ? 2 : 7;
	double end = bench_now() + (b->quick ? 6e9 : 70e9);

	/* Where neighbours have the CPUs, rather fewer rounds than no end. */
	for (size_t round = 0; set && round < rounds && bench_now() < end; round++)
		for (size_t i = 0; i < RUNS; i++)
			if (!why[i])
				why[i] = bench_program(b, runs[i].program, runs[i].mode,
						       runs[i].env, runs[i].prefix, set);
	if (set)
		add_rows(b, set);
	for (size_t i = 0; i < RUNS; i++)
		if (why[i])
			bench_skip(b, "sites", runs[i].prefix, why[i]);
	free(set);
}
