/* SPDX-License-Identifier: MIT */
/*
 * The peer: LLVM's XRay, in a program with 50,000 functions of two sleds each, 100,000
 * patched places as in sites_main.c. Prints "name value" lines as that does, ns a sled.
 *
 * What it does is less: it writes a sled's first two bytes last, in one store, and does
 * not synchronise the cores.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"

/* As <xray/xray_interface.h>, which is C++, declares them; 1 is success. */
int __xray_patch(void);
int __xray_unpatch(void);
int __xray_patch_function(int32_t id);
int __xray_unpatch_function(int32_t id);

enum { SLEDS = 100000 };

void xray_f0(void);
volatile int xray_sink;

static struct {
	pthread_t id;
	_Atomic bool stop, runs;
} other;

static void *run(void *arg)
{
	bench_pin(*(int *)arg);
	atomic_store(&other.runs, true);
	while (!atomic_load_explicit(&other.stop, memory_order_relaxed))
		xray_f0();
	return arg;
}

/* @n sleds: all of them, or those of the first functions one by one. */
static bool change(size_t n, bool on)
{
	bool good = true;

	if (n == SLEDS)
		return (on ? __xray_patch() : __xray_unpatch()) == 1;
	for (int32_t id = 1; id <= (int32_t)(n / 2); id++)
		good &= (on ? __xray_patch_function(id) : __xray_unpatch_function(id)) == 1;
	return good;
}

static void measure(size_t n, int repeat, const char *company)
{
	double start = bench_now();
	bool good = true;

	for (int i = 0; i < repeat; i++)
		good &= change(n, i % 2 == 0);
	if (!good)
		exit(1);
	printf("xray_%zu_%s %f\n", n, company, (bench_now() - start) / repeat / (double)n);
}

static void measure_all(const char *company)
{
	for (int round = 0; round < 5; round++) {
		measure(2, 100, company);
		measure(10, 100, company);
		measure(1000, 2, company);
	}
	measure(SLEDS, 6, company);
}

int main(void)
{
	const char *wish = getenv("BENCH_CPU");
	int cpu = wish ? (int)strtol(wish, NULL, 10) : 1;

	if (!change(SLEDS, true) || !change(SLEDS, false))
		return 1;
	measure_all("alone");
	if (cpu < 0)
		return 0;
	if (pthread_create(&other.id, NULL, run, &cpu))
		return 1;
	while (!atomic_load(&other.runs))
		sched_yield();
	measure_all("thread");
	atomic_store(&other.stop, true);
	(void)pthread_join(other.id, NULL);
	return 0;
}
