/* SPDX-License-Identifier: MIT */
/*
 * The keys of the programs with 100,000 sites, by how many sites each has, and the
 * functions that have them (gen_sites.py). STRIDE is how far apart functions start.
 */
#ifndef BENCH_SITES_H
#define BENCH_SITES_H

#include <shunt/static_call.h>

void sites_target(void);

DECLARE_STATIC_CALL(sites_1, sites_target);
DECLARE_STATIC_CALL(sites_10, sites_target);
DECLARE_STATIC_CALL(sites_1000, sites_target);
DECLARE_STATIC_CALL(sites_100000, sites_target);

#ifdef STRIDE
#define ALIGN __attribute__((aligned(STRIDE)))
#else
#define ALIGN
#endif

void sites_f0(void);

#endif
