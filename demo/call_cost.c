/* SPDX-License-Identifier: MIT */
/*
 * Four loops that differ in their call instruction alone, each starting on a cache
 * line of its own so that they do not differ in alignment either. Every call takes
 * what the last one returned, so calls cannot overlap. The kinds are measured in
 * turn, round after round, so that a change of clock speed or a busy neighbour hits
 * all of them; the median of the rounds is what counts.
 */
#include "call_cost.h"

#include <errno.h>
#include <shunt/static_call.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum {
	ROUNDS = 31,
	CALLS_A_ROUND = 200000,
};

typedef uint64_t step_fn(uint64_t x);

__attribute__((visibility("hidden"))) step_fn call_cost_callee;
__attribute__((visibility("hidden"))) step_fn call_cost_retpoline;

/* Volatile: loaded anew for each call, and nothing to be concluded from its value. */
extern __attribute__((visibility("hidden"))) step_fn *volatile call_cost_target;
step_fn *volatile call_cost_target = call_cost_callee;

/* Where the static call points at first, so that the measured site has been patched. */
static uint64_t not_the_callee(uint64_t x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(call_cost_step, not_the_callee);

__attribute__((noinline, aligned(64))) static uint64_t loop_direct(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = call_cost_callee(x);
	return x;
}

__attribute__((noinline, aligned(64))) static uint64_t loop_static(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = static_call(call_cost_step)(x);
	return x;
}

__attribute__((noinline, aligned(64))) static uint64_t loop_pointer(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = call_cost_target(x);
	return x;
}

__attribute__((noinline, aligned(64))) static uint64_t loop_retpoline(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = call_cost_retpoline(x);
	return x;
}

static const struct {
	const char *name;
	uint64_t (*loop)(uint64_t calls);
} kinds[CALL_KINDS] = {
	[CALL_DIRECT] = {"direct", loop_direct},
	[CALL_STATIC] = {"static call", loop_static},
	[CALL_POINTER] = {"function pointer", loop_pointer},
	[CALL_RETPOLINE] = {"retpoline", loop_retpoline},
};

/* Nanoseconds a call, or a negative number where the calls went elsewhere. */
static double time_loop(uint64_t (*loop)(uint64_t calls))
{
	struct timespec start, end;
	uint64_t x;

	if (clock_gettime(CLOCK_MONOTONIC, &start) != 0)
		return -1;
	x = loop(CALLS_A_ROUND);
	if (clock_gettime(CLOCK_MONOTONIC, &end) != 0 || x != CALLS_A_ROUND)
		return -1;
	return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
	       CALLS_A_ROUND;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

int call_cost_measure(struct call_cost costs[CALL_KINDS])
{
	double ns[CALL_KINDS][ROUNDS];
	int err = static_call_update(call_cost_step, call_cost_callee);

	if (err)
		return err;
	for (size_t round = 0; round < ROUNDS; round++) {
		/* Each kind has its turn at being first. */
		for (size_t turn = 0; turn < CALL_KINDS; turn++) {
			size_t kind = (round + turn) % CALL_KINDS;

			ns[kind][round] = time_loop(kinds[kind].loop);
			if (ns[kind][round] < 0)
				return -EIO;
		}
	}
	for (size_t kind = 0; kind < CALL_KINDS; kind++) {
		qsort(ns[kind], ROUNDS, sizeof(ns[kind][0]), by_value);
		costs[kind] = (struct call_cost){.name = kinds[kind].name,
						 .median = ns[kind][ROUNDS / 2],
						 .min = ns[kind][0],
						 .max = ns[kind][ROUNDS - 1]};
	}
	return 0;
}
