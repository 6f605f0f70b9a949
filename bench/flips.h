/* SPDX-License-Identifier: MIT */
/* Keys that are switched by one byte, and the loops that have their sites. */
#ifndef BENCH_FLIPS_H
#define BENCH_FLIPS_H

#include "bench.h"

#define HIDDEN __attribute__((visibility("hidden")))

/*
 * branches_x86_64.S: loops with one branch a turn; with two, of which one jumps whatever the key
 * is; the same with some arithmetic; and flips.c: what switches their keys. The last one's branches
 * are on a page that no thread runs.
 */
HIDDEN bench_loop_fn bench_loop_branch, bench_loop_branches, bench_loop_branches_work;
int bench_turn_one(bool on), bench_turn_both(bool on), bench_turn_work(bool on),
	bench_turn_elsewhere(bool on);

/* Whether the last update was one byte a site. */
bool bench_goes_by_flip(void);

/* branch_forms.c, as the header makes it, and with nops: eight branches a turn; a CRC-32C. */
uint64_t bench_branches_test(uint64_t turns), bench_branches_nop(uint64_t turns);
uint64_t bench_digest_test(const uint64_t *words, size_t n);
uint64_t bench_digest_nop(const uint64_t *words, size_t n);
int bench_switch_test_form(bool on), bench_switch_nop_form(bool on);

#endif
