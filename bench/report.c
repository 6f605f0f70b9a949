/* SPDX-License-Identifier: MIT */
/* The results as a table. */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *group, *title;
} titles[] = {
	{"call", "A call"},
	{"branch", "A branch that is rarely taken, eight in a loop"},
	{"forms", "What is switched by one byte, beside a nop of the same length"},
	{"update, one thread", "One update of one site, in a program that has one thread"},
	{"update, int3",
	 "One update of one site by int3; the floor: its core syncs and writes, bare"},
	{"update, remap", "One update of one site by remap; the floor: its system calls, bare"},
	{"update, flip",
	 "One switch of one static branch; the floor: a write of one byte and a core sync, bare"},
	{"update", "One update of one site"},
	{"sites", "Updates of many sites"},
	{"hammer", "What a thread that calls at the site without end gets done"},
	{"rate", "How many updates a second were made in these windows"},
	{"stall", "How long one update holds that thread up"},
	{"startup", "Start-up with 100,000 sites"},
	{"memory", "Memory of 100,000 sites, beyond the same program without known sites"},
	{"trace, off", "A call of a function that can be traced and is not"},
	{"trace, callback", "A call of a function that is traced by a callback"},
	{"trace, recorded", "A call whose entry and return are recorded"},
	{"trace, peers", "The same by others"},
	{"trace, switch", "Switching functions on and off; beside it a poke of as many places"},
	{"trace, memory", "Memory of tracing"},
};

/* Four digits that count, and no exponent. */
static const char *number(double value, char text[16])
{
	int digits = value >= 999.5 ? 0 : value >= 99.95 ? 1 : value >= 9.995 ? 2 : 3;

	if (value < 0.9995 && value > -0.9995)
		digits = 4;
	snprintf(text, 16, "%.*f", digits, value);
	return text;
}

static void print_row(const struct bench_row *row)
{
	char spread[40], median[16], low[16], high[16], p99[16], max[16];

	if (!row->rounds) {
		printf("  %-54s skipped: %s\n", row->name, row->why);
		return;
	}
	snprintf(spread, sizeof(spread), "%s..%s", number(row->low, low), number(row->high, high));
	printf("  %-54s %9s %-8s %-16s", row->name, number(row->median, median), row->unit,
	       row->rounds > 1 ? spread : "");
	if (row->ratio > 0)
		printf(" %8.3g x %s", row->ratio, row->ratio_to);
	if (row->p99 > 0)
		printf(" p99 %s, max %s", number(row->p99, p99), number(row->max, max));
	printf("\n");
}

static void print_machine(const struct bench *b)
{
	struct bench_machine m;

	bench_see_machine(&m);
	printf("%s, %d CPUs, Linux %s, %s\n", m.cpu, m.cpus, m.kernel, m.compiler);
	printf("poke: %s, writes: %s, sync: %s; load average %.2f before, %.2f after%s\n", m.poke,
	       m.write, m.sync, b->load_before, m.load, b->quick ? "; quick" : "");
	printf("median, quartiles of interleaved rounds, ratio to the same of each round\n");
}

void bench_print(const struct bench *b)
{
	print_machine(b);
	for (size_t t = 0; t < sizeof(titles) / sizeof(titles[0]); t++) {
		bool has_title = false;

		for (size_t i = 0; i < b->nr_rows; i++) {
			if (strcmp(b->rows[i].group, titles[t].group) != 0)
				continue;
			if (!has_title)
				printf("\n%s\n", titles[t].title);
			has_title = true;
			print_row(&b->rows[i]);
		}
	}
}
