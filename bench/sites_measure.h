/* SPDX-License-Identifier: MIT */
/* What the programs with 100,000 sites share (sites_measure.c). */
#ifndef BENCH_SITES_MEASURE_H
#define BENCH_SITES_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

/* Another thread that calls @fn without end, on the CPU BENCH_CPU; false: there is to be none. */
bool sites_thread_start(void (*fn)(void));
void sites_thread_stop(void);

/*
 * Print ns a site, as "NAME_N_COMPANY ns": of @repeat changes of @n sites, the i-th by @one(n, i).
 * @repeat is even, so that all sites end as they began.
 */
void sites_measure(const char *name, int (*one)(size_t n, int i), size_t n, int repeat,
		   const char *company);

/* How many updates make a sample: less than what the scheduler gives at a time. */
int sites_repeats(size_t n);

#endif
