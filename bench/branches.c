/* SPDX-License-Identifier: MIT */
/*
 * (b) What a branch costs that is rarely taken: a static branch against a relaxed load
 * and test, eight of either in each turn of a loop, and the loop without any.
 */
#include "bench.h"

#include <shunt/static_key.h>
#include <stdatomic.h>

DEFINE_STATIC_KEY_FALSE(bench_branch);
static _Atomic int flag;
static unsigned long taken;

static uint64_t turns;

/* The compiler may not merge two of them: what it knows of memory ends here. */
#define BARRIER() __asm__ volatile("" ::: "memory")
#define EIGHT(x)  x x x x x x x x

__attribute__((noinline, aligned(64))) static void loop_empty(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		EIGHT(BARRIER();)
	}
}

__attribute__((noinline, aligned(64))) static void loop_static(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		EIGHT(if (static_branch_unlikely(&bench_branch)) taken++; BARRIER();)
	}
}

__attribute__((noinline, aligned(64))) static void loop_load(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		EIGHT(if (__builtin_expect(atomic_load_explicit(&flag, memory_order_relaxed), 0))
			      taken++;
		      BARRIER();)
	}
}

struct loop {
	void (*fn)(uint64_t n);
};

static double time_loop(const void *arg)
{
	const struct loop *loop = arg;
	double start = bench_now();

	loop->fn(turns);
	return (bench_now() - start) / (double)turns / 8;
}

void bench_branches(struct bench *b)
{
	static const struct loop empty = {loop_empty}, branch = {loop_static}, load = {loop_load};
	const struct bench_case cases[] = {
		{"load and test", time_loop, &load, -1},
		{"static branch", time_loop, &branch, 0},
		{"loop with neither", time_loop, &empty, 0},
	};

	turns = b->quick ? 100000 : 500000;
	/* There and back: the sites are what an update leaves, not what the linker did. */
	b->failed |= static_branch_enable(&bench_branch) || static_branch_disable(&bench_branch);
	bench_run(b, "branch", "ns/test", cases, 3, b->quick ? 21 : 51);
	b->failed |= taken != 0;
}
