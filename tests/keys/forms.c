/* SPDX-License-Identifier: MIT */
/*
 * Each form of a static branch (forms.h), before the constructors and behind each
 * change: what the test says, and which bytes stand at the site. Built in many ways by
 * forms.sh.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "forms.h"

DEFINE_STATIC_KEY_FALSE(key_false);
DEFINE_STATIC_KEY_TRUE(key_true);
DEFINE_STATIC_KEY_ARRAY_FALSE(array_false, 4);
DEFINE_STATIC_KEY_ARRAY_TRUE(array_true, 4);
DEFINE_STATIC_KEY_FALSE(exe_false);
EXPORT_STATIC_KEY(exe_false);
DEFINE_STATIC_KEY_TRUE(exe_true);
EXPORT_STATIC_KEY(exe_true);

TESTS(false, key_false)
TESTS(true, key_true)
TESTS(a0, array_false[0])
TESTS(a3, array_false[3])
TESTS(b0, array_true[0])
TESTS(b1, array_true[1])
TESTS(exe_false, exe_false)
TESTS(exe_true, exe_true)
TESTS(of_lib_false, lib_false)
TESTS(of_lib_true, lib_true)

/* Never called: with --gc-sections it goes, and its site with it. */
__attribute__((noinline, unused)) bool unused_test(void);
bool unused_test(void)
{
	return static_branch_unlikely(&key_false);
}

static const test_fn of_false[] = {NR_TESTS(false), inline_false, NULL};
static const test_fn of_true[] = {NR_TESTS(true), inline_true, NULL};
static const test_fn of_a0[] = {NR_TESTS(a0), NULL};
static const test_fn of_a3[] = {NR_TESTS(a3), NULL};
static const test_fn of_b0[] = {NR_TESTS(b0), NULL};
static const test_fn of_b1[] = {NR_TESTS(b1), NULL};
static const test_fn of_exe_false[] = {NR_TESTS(exe_false), NULL};
static const test_fn of_exe_true[] = {NR_TESTS(exe_true), NULL};
static const test_fn of_lib_false[] = {NR_TESTS(of_lib_false), NULL};
static const test_fn of_lib_true[] = {NR_TESTS(of_lib_true), NULL};

static const struct tests tests_main = {
	.key_false = of_false,
	.key_true = of_true,
	.exe_false = of_exe_false,
	.exe_true = of_exe_true,
	.lib_false = of_lib_false,
	.lib_true = of_lib_true,
	.array_false = {of_a0, NULL, NULL, of_a3},
	.array_true = {of_b0, of_b1, NULL, NULL},
};

#define FILES 5
static const struct tests *const files[FILES] = {&tests_main, &tests_more, &tests_cxx, &tests_cxx2,
						 &tests_lib};

enum which {
	KEY_FALSE,
	KEY_TRUE,
	EXE_FALSE,
	EXE_TRUE,
	LIB_FALSE,
	LIB_TRUE,
	A0,
	A2,
	A3,
	B0,
	B1,
	NR
};

static const test_fn *list(const struct tests *file, unsigned which)
{
	const test_fn *const lists[NR] = {
		file->key_false,      file->key_true,       file->exe_false,
		file->exe_true,       file->lib_false,      file->lib_true,
		file->array_false[0], file->array_false[2], file->array_false[3],
		file->array_true[0],  file->array_true[1],
	};

	return lists[which];
}

/* Whether every test of a key says @on; counts them. */
static bool all_say(unsigned which, bool on, int *count)
{
	bool good = true;

	for (size_t f = 0; f < FILES; f++)
		for (const test_fn *fn = list(files[f], which); fn && *fn; fn++) {
			++*count;
			good = good && (*fn)() == on;
		}
	return good;
}

static const bool initial[NR] = {false, true,  false, true, false, true,
				 false, false, false, true, true};

static bool all_are(const bool *values, int *count)
{
	bool good = true;

	*count = 0;
	for (unsigned i = 0; i < NR; i++)
		good = all_say(i, values[i], count) && good;
	return good;
}

/* ------------------------------------------------- before any constructor has run */

static bool early;
static int early_tests;

static void look_early(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	(void)envp;
	early = all_are(initial, &early_tests);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(int, char **,
									      char **) = look_early;

/* --------------------------------------------------------------------- live bytes */

struct look {
	bool on;
	int jmp8, jmp32, nop2, nop5, wrong, checked;
};

static bool has(const char *name, const char *part)
{
	return name && strstr(name, part);
}

static int look_at(const struct shunt_site_info *info, void *arg)
{
#ifdef SHUNT_NOP_BRANCHES
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00}, nop2[] = {0x66, 0x90};
	const size_t len5 = 5, len2 = 2;
#else
	static const uint8_t nop5[] = {0xa9}, nop2[] = {0xa8}; /* the rest is the displacement */
	const size_t len5 = 1, len2 = 1;
#endif
	struct look *look = (struct look *)arg;
	const uint8_t *b = (const uint8_t *)info->addr;
	bool jumps = true, unlikely = has(info->function, "unlikely");

	if (info->len == 5 && !memcmp(b, nop5, len5))
		look->nop5++, jumps = false;
	else if (info->len == 2 && !memcmp(b, nop2, len2))
		look->nop2++, jumps = false;
	else if (info->len == 5 && b[0] == 0xe9)
		look->jmp32++;
	else if (info->len == 2 && b[0] == 0xeb)
		look->jmp8++;
	else
		look->wrong++;
	if (has(info->function, "likely")) {
		look->checked++;
		look->wrong += jumps != (look->on == unlikely);
	}
	look->wrong += info->state != SHUNT_SITE_NOP_OR_JMP;
	return 0;
}

static struct look look_at_all(const char *key, bool on)
{
	struct look look = {.on = on};

	if (shunt_for_each_site(key, look_at, &look))
		look.wrong++;
	return look;
}

/* ---------------------------------------------------------------------- one by one */

static int turn(unsigned which, bool on)
{
	switch (which) {
	case KEY_FALSE:
		return on ? static_branch_enable(&key_false) : static_branch_disable(&key_false);
	case KEY_TRUE:
		return on ? static_branch_enable(&key_true) : static_branch_disable(&key_true);
	case EXE_FALSE:
		return on ? static_branch_inc(&exe_false) : static_branch_dec(&exe_false);
	case EXE_TRUE:
		return on ? static_branch_inc(&exe_true) : static_branch_dec(&exe_true);
	case LIB_FALSE:
		return on ? static_branch_inc(&lib_false) : static_branch_dec(&lib_false);
	case LIB_TRUE:
		return on ? static_branch_enable(&lib_true) : static_branch_disable(&lib_true);
	case A0:
		return on ? static_branch_inc(&array_false[0]) : static_branch_dec(&array_false[0]);
	case A2:
		return on ? static_branch_enable(&array_false[2])
			  : static_branch_disable(&array_false[2]);
	case A3:
		return on ? static_branch_enable(&array_false[3])
			  : static_branch_disable(&array_false[3]);
	case B0:
		return on ? static_branch_enable(&array_true[0])
			  : static_branch_disable(&array_true[0]);
	default:
		return on ? static_branch_inc(&array_true[1]) : static_branch_dec(&array_true[1]);
	}
}

static const char *const names[NR] = {"key_false",      "key_true",       "exe_false",
				      "exe_true",       "lib_false",      "lib_true",
				      "array_false[0]", "array_false[2]", "array_false[3]",
				      "array_true[0]",  "array_true[1]"};

/* Each key there and back, while all others stay. */
static void test_each(void)
{
	bool values[NR];
	int n;

	memcpy(values, initial, sizeof(values));
	for (unsigned i = 0; i < NR; i++) {
		bool there, back;
		int ret, ret2;

		values[i] = !values[i];
		ret = turn(i, values[i]);
		there = all_are(values, &n);
		values[i] = !values[i];
		ret2 = turn(i, values[i]);
		back = all_are(values, &n);
		ok(!ret && !ret2 && there && back, "%s there (%d) and back (%d), %d tests",
		   names[i], ret, ret2, n);
	}
}

/* The bytes of the single keys; in arrays elements share a name. */
static void test_bytes(void)
{
	int jmp8 = 0, jmp32 = 0, nop2 = 0, nop5 = 0, checked = 0;

	for (unsigned i = KEY_FALSE; i <= LIB_TRUE; i++)
		/* As it is, changed, and back. */
		for (int step = 0; step < 3; step++) {
			struct look look;
			bool now = step == 1 ? !initial[i] : initial[i];

			if (step && turn(i, now))
				ok(false, "%s: turn", names[i]);
			look = look_at_all(names[i], now);
			if (look.wrong || !look.checked)
				ok(false, "%s: %d of its sites are wrong, %d checked", names[i],
				   look.wrong, look.checked);
			jmp8 += look.jmp8;
			jmp32 += look.jmp32;
			nop2 += look.nop2;
			nop5 += look.nop5;
			checked += look.checked;
		}
#ifndef __OPTIMIZE__
	jmp8 += !jmp8; /* clang leaves too much in between */
	nop2 += !nop2;
#endif
	ok(jmp8 && jmp32 && nop2 && nop5,
	   "bytes: jmp rel8 %d, jmp rel32 %d, off in 2 %d, off in 5 %d (%d checked by name)", jmp8,
	   jmp32, nop2, nop5, checked);
}

static void test_counts(void)
{
	int ret = static_branch_inc(&key_false), n = 0;

	ret = ret ? ret : static_branch_inc(&key_false);
	ok(!ret && static_key_count(&key_false) == 2 && static_key_enabled(&key_false),
	   "inc twice");
	ok(static_branch_disable(&key_false) == -EBUSY && all_say(KEY_FALSE, true, &n),
	   "disable is refused while two count on it");
	ok(static_branch_enable(&key_false) == 0 && static_key_count(&key_false) == 2,
	   "enable changes nothing there");
	ok(!static_branch_dec(&key_false) && all_say(KEY_FALSE, true, &n) &&
		   static_key_count(&key_false) == 1,
	   "dec leaves it on");
	ok(!static_branch_dec(&key_false) && all_say(KEY_FALSE, false, &n) &&
		   !static_key_enabled(&key_false),
	   "dec once more: off");
	ok(static_branch_dec(&key_false) == -EINVAL && all_say(KEY_FALSE, false, &n) &&
		   static_key_count(&key_false) == 0,
	   "and again: -EINVAL");
	ok(static_branch_disable(&key_false) == 0 && static_key_count(&key_false) == 0,
	   "disable of one that is off");
}

static void test_from_the_library(void)
{
	int n = 0, ret = lib_switch(0, 1), ret2 = lib_switch(1, 1);

	ok(!ret && !ret2 && all_say(EXE_FALSE, true, &n) && all_say(LIB_FALSE, true, &n) &&
		   all_say(EXE_TRUE, true, &n) && all_say(LIB_TRUE, true, &n) &&
		   lib_count(0) == 1 && lib_count(1) == 1 && static_key_count(&lib_false) == 1,
	   "the library switches both modules' keys on");
	ret = lib_switch(0, 0);
	ret2 = lib_switch(1, 0);
	ok(!ret && !ret2 && all_say(EXE_FALSE, false, &n) && all_say(LIB_FALSE, false, &n) &&
		   all_say(EXE_TRUE, false, &n) && all_say(LIB_TRUE, false, &n) && !lib_count(0) &&
		   !lib_count(1),
	   "and off");
	ret = static_branch_enable(&exe_true);
	ret2 = static_branch_enable(&lib_true);
	ok(!ret && !ret2, "and back");
}

int main(void)
{
	int n;

	/* The sections of what is not kept: NULL would be called if one went too many. */
	ok(early && early_tests > 60, "%d tests say the initial values before the constructors",
	   early_tests);
	ok(all_are(initial, &n), "and behind them");
	test_each();
	test_bytes();
	test_counts();
	test_from_the_library();
	ok(all_are(initial, &n), "at the end all are as they were");
	return tap_done();
}
