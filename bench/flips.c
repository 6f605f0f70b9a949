/* SPDX-License-Identifier: MIT */
/*
 * (i) What is only switched on and off, by one byte: what its off form costs beside a nop of the
 * same length, which it was before, in a tight loop and in the demo's digest.
 */
#include "flips.h"

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <string.h>

HIDDEN void bench_return(uint64_t x);
HIDDEN bench_loop_fn bench_loop_null, bench_loop_nop, bench_loop_call;

/* Of branches_x86_64.S. */
DEFINE_STATIC_KEY_FALSE(bench_switch);
DEFINE_STATIC_KEY_FALSE(bench_switch_both);
DEFINE_STATIC_KEY_FALSE(bench_switch_work);
DEFINE_STATIC_KEY_FALSE(bench_switch_elsewhere);
DEFINE_STATIC_CALL_NULL(bench_null, bench_return);

int bench_turn_one(bool on)
{
	return on ? static_branch_enable(&bench_switch) : static_branch_disable(&bench_switch);
}

int bench_turn_both(bool on)
{
	return on ? static_branch_enable(&bench_switch_both)
		  : static_branch_disable(&bench_switch_both);
}

int bench_turn_work(bool on)
{
	return on ? static_branch_enable(&bench_switch_work)
		  : static_branch_disable(&bench_switch_work);
}

int bench_turn_elsewhere(bool on)
{
	return on ? static_branch_enable(&bench_switch_elsewhere)
		  : static_branch_disable(&bench_switch_elsewhere);
}

bool bench_goes_by_flip(void)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	return !strcmp(ways.poke, "flip");
}

static int turn_null(bool on)
{
	return on ? static_call_update(bench_null, bench_return)
		  : static_call_update(bench_null, NULL);
}

/* ----------------------------------------------------------------- the cases */

/* @turn is in the state that it is to be measured in; NULL: it is not switched. */
struct form {
	bench_loop_fn *loop;
	int (*turn)(bool on);
	bool on;
	uint64_t turns; /* in a sample, and of what in each */
	double of_each;
};

static double time_form(const void *arg)
{
	const struct form *form = arg;
	double start;

	if (form->turn && form->turn(form->on))
		return -1;
	(void)form->loop(form->turns / 100); /* the code is new to the CPU */
	start = bench_now();
	(void)form->loop(form->turns);
	return (bench_now() - start) / (double)form->turns / form->of_each;
}

static uint64_t words[8192]; /* 64 KiB */

static uint64_t digest_test(uint64_t turns)
{
	uint64_t sum = 0;

	while (turns--)
		sum += bench_digest_test(words, 8192);
	return sum;
}

static uint64_t digest_nop(uint64_t turns)
{
	uint64_t sum = 0;

	while (turns--)
		sum += bench_digest_nop(words, 8192);
	return sum;
}

#define LOOPS   2000000
#define DIGESTS 200

static void bench_forms_of_calls(struct bench *b)
{
	static const struct form nop = {bench_loop_nop, NULL, false, LOOPS, 1},
				 off = {bench_loop_null, turn_null, false, LOOPS, 1},
				 call = {bench_loop_call, NULL, false, LOOPS, 1},
				 on = {bench_loop_null, turn_null, true, LOOPS, 1};
	static const struct bench_case cases[] = {
		{"5-byte nop", time_form, &nop, -1},
		{"call of NULL", time_form, &off, 0},
		{"direct call", time_form, &call, -1},
		{"the same call, on", time_form, &on, 2},
	};

	/* From NULL at first there is no target to keep. */
	b->failed |= turn_null(true) || turn_null(false);
	bench_run(b, "forms", "ns/call", cases, 4, b->quick ? 21 : 51);
}

static void bench_forms_of_branches(struct bench *b)
{
	static const struct form forms[] = {
		{bench_branches_nop, bench_switch_nop_form, false, LOOPS / 8, 8},
		{bench_branches_test, bench_switch_test_form, false, LOOPS / 8, 8},
		{bench_branches_nop, bench_switch_nop_form, true, LOOPS / 8, 8},
		{bench_branches_test, bench_switch_test_form, true, LOOPS / 8, 8},
	};
	static const struct bench_case cases[] = {
		{"branch off, by a nop", time_form, &forms[0], -1},
		{"branch off", time_form, &forms[1], 0},
		{"branch on, by a nop when off", time_form, &forms[2], -1},
		{"branch on", time_form, &forms[3], 2},
	};

	bench_run(b, "forms", "ns/test", cases, 4, b->quick ? 21 : 51);
}

static void bench_forms_in_digests(struct bench *b)
{
	static const struct form forms[] = {
		{digest_nop, bench_switch_nop_form, false, DIGESTS, 65.536},
		{digest_test, bench_switch_test_form, false, DIGESTS, 65.536},
		{digest_nop, bench_switch_nop_form, true, DIGESTS, 65.536},
		{digest_test, bench_switch_test_form, true, DIGESTS, 65.536},
	};
	static const struct bench_case cases[] = {
		{"digest, off, by a nop", time_form, &forms[0], -1},
		{"digest, off", time_form, &forms[1], 0},
		{"digest, on, by a nop when off", time_form, &forms[2], -1},
		{"digest, on", time_form, &forms[3], 2},
	};

	if (!__builtin_cpu_supports("sse4.2"))
		bench_skip(b, "forms", "digest", "a CPU without SSE 4.2");
	else
		bench_run(b, "forms", "ns/kB", cases, 4, b->quick ? 11 : 31);
}

void bench_flips(struct bench *b)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = i * 0x9e3779b97f4a7c15u;
	bench_forms_of_branches(b);
	bench_forms_of_calls(b);
	bench_forms_in_digests(b);
}
