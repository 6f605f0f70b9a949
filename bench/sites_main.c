/* SPDX-License-Identifier: MIT */
/*
 * A program with 100,000 sites, which measures itself and prints "name value" lines.
 *
 *	startup          exec to main(), the constructors' time, memory at main()
 *	update           ns a site for updates of 1 to 100,000 sites, alone and with a
 *	                 thread running: one update of a key, one text_poke_bp_batch(),
 *	                 and one text_poke_bp() for each site
 *	batch            the first of these alone
 *	profile          updates of 100,000 sites for five seconds, for a profiler
 *
 * BENCH_START is the clock as it was just before the exec, BENCH_CPU the CPU for the
 * other thread (-1: no other thread), BENCH_QUICK is set for fewer repetitions.
 */
#include <shunt/inspect.h>
#include <shunt/text_poke.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sites.h"
#include "sites_measure.h"

extern __attribute__((visibility("hidden"))) uint8_t sites_nops[];

__attribute__((noinline, aligned(64))) void sites_target(void)
{
	__asm__ volatile("");
}

__attribute__((noinline, aligned(64))) static void other_target(void)
{
	__asm__ volatile("" ::: "memory");
}

DEFINE_STATIC_CALL(sites_1, sites_target);
DEFINE_STATIC_CALL(sites_10, sites_target);
DEFINE_STATIC_CALL(sites_1000, sites_target);
DEFINE_STATIC_CALL(sites_100000, sites_target);

enum { SITES = 100000 };

/* ----------------------------------------------------------------- start-up */

static double before_constructors;

static void see_before(void)
{
	before_constructors = bench_now();
}
__attribute__((used, section(".preinit_array"))) static void (*preinit)(void) = see_before;

/* @field of @file, in KiB. */
static void print_memory(const char *file, const char *field, const char *name)
{
	FILE *f = fopen(file, "re");
	char line[256];
	size_t len = strlen(field);

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ':')
			printf("%s %ld\n", name, strtol(line + len + 1, NULL, 10));
	if (f)
		(void)fclose(f);
}

static void startup(double at_main)
{
	const char *start = getenv("BENCH_START");

	if (start)
		printf("main %f\n", (at_main - strtod(start, NULL)) / 1e6);
	printf("constructors %f\n", (at_main - before_constructors) / 1e6);
	print_memory("/proc/self/smaps_rollup", "Rss", "rss");
	print_memory("/proc/self/smaps_rollup", "Private_Dirty", "dirty");
	print_memory("/proc/self/status", "VmHWM", "peak");
}

/* ------------------------------------------------------------------ updates */

/* Each changes @n sites in its way, to another state than that of the last turn. */
static int one_update(size_t n, int turn)
{
	void (*to)(void) = turn % 2 ? sites_target : other_target;

	if (n == 1)
		return static_call_update(sites_1, to);
	if (n == 10)
		return static_call_update(sites_10, to);
	if (n == 1000)
		return static_call_update(sites_1000, to);
	return static_call_update(sites_100000, to);
}

static const uint8_t nop[5] = {0x0f, 0x1f, 0x44, 0, 0}, jmp[5] = {0xe9, 0, 0, 0, 0};

static int text_batch(size_t n, int turn)
{
	static struct text_poke pokes[SITES];

	for (size_t i = 0; i < n; i++)
		pokes[i] = (struct text_poke){.addr = sites_nops + i * NOP_STRIDE,
					      .insn = turn % 2 ? nop : jmp,
					      .len = 5};
	return text_poke_bp_batch(pokes, n);
}

static int text_each(size_t n, int turn)
{
	int err = 0;

	for (size_t i = 0; i < n; i++)
		err |= text_poke_bp(sites_nops + i * NOP_STRIDE, turn % 2 ? nop : jmp, 5);
	return err;
}

static void measure_size(size_t n, const char *company, bool each)
{
	sites_measure("update", one_update, n, sites_repeats(n), company);
	if (!each)
		return;
	sites_measure("batch", text_batch, n, sites_repeats(n), company);
	/* A fifth of the sites tells the same where time is short. */
	sites_measure("each", text_each, n == SITES && getenv("BENCH_QUICK") ? SITES / 5 : n,
		      n == 1 ? sites_repeats(n) : 2, company);
}

/* The short ones more often: a busy neighbour can have the CPU for all of one. */
static void measure_all(const char *company, bool each)
{
	for (int round = 0; round < 5; round++) {
		measure_size(1, company, each);
		measure_size(10, company, each);
		measure_size(1000, company, each);
	}
	measure_size(SITES, company, each);
}

static int updates(bool each)
{
	/* Once for all first: records are made, and pages copied, at a site's first poke. */
	if (one_update(SITES, 0) || one_update(SITES, 1) || (each && text_batch(SITES, 0)) ||
	    (each && text_batch(SITES, 1))) {
		fprintf(stderr, "%s\n", shunt_last_error());
		return 1;
	}
	measure_all("alone", each);
	if (!sites_thread_start(sites_f0))
		return 0;
	measure_all("thread", each);
	sites_thread_stop();
	print_memory("/proc/self/smaps_rollup", "Private_Dirty", "dirty_after");
	print_memory("/proc/self/status", "VmHWM", "peak_after");
	return 0;
}

static int profile(void)
{
	double end = bench_now() + 5e9;
	int err = 0;

	for (int i = 0; bench_now() < end; i++)
		err |= one_update(SITES, i);
	return err != 0;
}

int main(int argc, char **argv)
{
	double at_main = bench_now();
	const char *mode = argc > 1 ? argv[1] : "startup";

	if (!strcmp(mode, "update"))
		return updates(true);
	if (!strcmp(mode, "batch"))
		return updates(false);
	if (!strcmp(mode, "profile"))
		return profile();
	startup(at_main);
	return 0;
}
