/* SPDX-License-Identifier: MIT */
/*
 * (a) What a call costs, by how the callee is reached. Every call takes what the last
 * one returned, so calls cannot overlap, and each loop differs in its call alone.
 */
#include "bench.h"

#include <dlfcn.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t step_fn(uint64_t x);

/* What loops_x86_64.S names. */
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN step_fn bench_step, bench_step1, bench_step2, bench_step3, bench_step4, bench_step5,
	bench_step6, bench_step7;
HIDDEN bench_loop_fn bench_loop_far, bench_loop_trampoline, bench_loop_pointer, bench_loop_ifunc,
	bench_loop_retpoline, bench_loop_random2, bench_loop_random8, bench_loop_loaded;

extern HIDDEN step_fn *volatile bench_pointer;
step_fn *volatile bench_pointer = bench_step;

/* bench_targets2 has eight entries too, of two functions. */
extern HIDDEN step_fn *const bench_targets[8], *const bench_targets2[8];
step_fn *const bench_targets[8] = {bench_step,  bench_step1, bench_step2, bench_step3,
				   bench_step4, bench_step5, bench_step6, bench_step7};
step_fn *const bench_targets2[8] = {bench_step, bench_step1, bench_step, bench_step1,
				    bench_step, bench_step1, bench_step, bench_step1};

extern HIDDEN uint8_t bench_random[1 << 16];
uint8_t bench_random[1 << 16];

__attribute__((used)) static step_fn *resolve(void)
{
	return bench_step;
}
HIDDEN step_fn bench_ifunc __attribute__((ifunc("resolve")));

/* They start at another function, so that the measured sites have been changed. */
DEFINE_STATIC_CALL(bench_inline, bench_step1);
DEFINE_STATIC_CALL(bench_work, bench_step1);
DEFINE_STATIC_CALL(bench_elsewhere, bench_step1);
DEFINE_STATIC_CALL(bench_far, bench_step1);
DEFINE_STATIC_CALL(bench_trampoline, bench_step1);
__asm__(".globl bench_trampoline_alias\n"
	".hidden bench_trampoline_alias\n"
	".set bench_trampoline_alias, __SCT__bench_trampoline\n");

int bench_retarget(bool other)
{
	return static_call_update(bench_inline, other ? bench_step1 : bench_step);
}

int bench_retarget_work(bool other)
{
	return static_call_update(bench_work, other ? bench_step1 : bench_step);
}

int bench_retarget_elsewhere(bool other)
{
	return static_call_update(bench_elsewhere, other ? bench_step1 : bench_step);
}

/* ----------------------------------------------------------------- the cases */

static uint64_t calls_a_round;

struct loop {
	bench_loop_fn *fn;
};

static double time_loop(const void *arg)
{
	const struct loop *loop = arg;
	double start = bench_now();
	uint64_t made = loop->fn(calls_a_round);

	return made == calls_a_round ? (bench_now() - start) / (double)calls_a_round : -1;
}

/* xorshift64: good enough that no predictor learns 65,536 of them. */
static void fill_random(void)
{
	uint64_t x = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < sizeof(bench_random); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bench_random[i] = x >> 32 & 7;
	}
}

static int to_state(const struct shunt_site_info *info, void *arg)
{
	*(enum shunt_site_state *)arg = info->state;
	return 0;
}

/* Whether the one site of @key is in the state that is to be measured. */
static bool is_in_state(const char *key, enum shunt_site_state wanted)
{
	enum shunt_site_state state = SHUNT_SITE_NOP_OR_JMP;

	return !shunt_for_each_site(key, to_state, &state) && state == wanted;
}

static bench_loop_fn *load_plugin(const struct bench *b, step_fn **step)
{
	char path[4096];
	void *plugin;

	snprintf(path, sizeof(path), "%s/shunt-bench-plugin.so", b->dir);
	plugin = dlopen(path, RTLD_LAZY);
	if (!plugin)
		return NULL;
	*step = (step_fn *)dlsym(plugin, "bench_plugin_step");
	return (bench_loop_fn *)dlsym(plugin, "bench_plugin_loop");
}

/* The first is what the ratios are to; the last two need the plugin. */
enum { INLINE = 1, FAR = 9, PLT = 10, KINDS = 11 };

static struct {
	const char *name;
	struct loop loop;
} kinds[KINDS] = {
	{"direct", {bench_loop_direct}},
	{"static call", {bench_loop_inline}},
	{"direct, in text as loaded", {bench_loop_loaded}},
	{"static call, trampoline", {bench_loop_trampoline}},
	{"pointer, one target", {bench_loop_pointer}},
	{"pointer, 2 random targets", {bench_loop_random2}},
	{"pointer, 8 random targets", {bench_loop_random8}},
	{"ifunc", {bench_loop_ifunc}},
	{"retpoline", {bench_loop_retpoline}},
	{"static call, far (veneer)", {bench_loop_far}},
	{"PLT of a shared object", {NULL}},
};

/* Why a kind cannot be measured, or NULL. */
static const char *why_not(size_t kind, bool has_plugin)
{
	if (kind >= FAR && !has_plugin)
		return "no shunt-bench-plugin.so";
	if (kind == INLINE && !is_in_state("bench_inline", SHUNT_SITE_INLINE))
		return "the site is not inline";
	if (kind == FAR && !is_in_state("bench_far", SHUNT_SITE_FAR))
		return "the site is not far";
	return NULL;
}

/* By remap where it can be had: so that the loops beside are in a page that was replaced. */
static int move_site(void)
{
	int err = shunt_set_poke(SHUNT_POKE_REMAP) || static_call_update(bench_inline, bench_step);

	if (shunt_set_poke(SHUNT_POKE_AUTO))
		return -1;
	return err ? static_call_update(bench_inline, bench_step) : 0;
}

void bench_calls(struct bench *b)
{
	struct bench_case cases[KINDS];
	step_fn *far = NULL;
	size_t n = 0;

	calls_a_round = b->quick ? 100000 : 500000;
	fill_random();
	kinds[PLT].loop.fn = load_plugin(b, &far);
	b->failed |= static_call_update(bench_trampoline, bench_step) || move_site() ||
		     (far && static_call_update(bench_far, far));
	for (size_t i = 0; i < KINDS; i++) {
		const char *why = why_not(i, far != NULL);

		if (why)
			bench_skip(b, "call", kinds[i].name, why);
		else
			cases[n++] =
				(struct bench_case){kinds[i].name, time_loop, &kinds[i].loop, 0};
	}
	bench_run(b, "call", "ns/call", cases, n, b->quick ? 21 : 51);
}
