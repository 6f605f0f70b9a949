/* SPDX-License-Identifier: MIT */
/*
 * One key, one call: every form of call and of signature, NULL and RET0 keys,
 * what an update changes and what it refuses.
 */
#include <errno.h>
#include <string.h>

#include "suite.h"
#include "tap.h"

DEFINE_STATIC_CALL(st_add, add1);
DEFINE_STATIC_CALL_NULL(st_bump, bump_by_1);
DEFINE_STATIC_CALL_RET0(st_zero, add1);
DEFINE_STATIC_CALL(st_scale, scale2);
DEFINE_STATIC_CALL(st_big, big_forward);
DEFINE_STATIC_CALL(st_ten, ten_args);
DEFINE_STATIC_CALL(st_var, sum_of);
DEFINE_STATIC_CALL_RET0(st_pointer, pointer_self);
DEFINE_STATIC_CALL_RET0(st_bool, is_positive);

static int doubled(int x) __attribute__((const));
DEFINE_STATIC_CALL(st_const, doubled);

/* ---------------------------------------------------- a site of each form */

KEEP int call_site(int x)
{
	return static_call(st_add)(x) - zero;
}

KEEP int tail_site(int x)
{
	return static_call(st_add)(x);
}

KEEP int loop_site(int x, int n)
{
	for (int i = 0; i < n; i++)
		x = static_call(st_add)(x);
	return x;
}

/* Two calls of one key in a function: clang -fno-plt is tempted to share the address. */
KEEP static int twice_site(int x)
{
	return static_call(st_add)(x) + static_call(st_add)(x + 1);
}

/* A compiler may write this tail call as a conditional jump. */
KEEP static int cond_tail_site(int x)
{
	if (x > 5)
		return static_call(st_add)(x);
	return -x;
}

KEEP static void null_call_site(int *counter)
{
	static_call_cond(st_bump)(counter);
	*counter += zero;
}

KEEP static void null_tail_site(int *counter)
{
	static_call_cond(st_bump)(counter);
}

KEEP static int ret0_call_site(int x)
{
	return static_call(st_zero)(x) - zero;
}

KEEP static int ret0_tail_site(int x)
{
	return static_call(st_zero)(x);
}

/* ------------------------------------------------------------------ the tests */

static void all_forms_reach(int added, const char *name)
{
	ok(call_site(10) == 10 + added, "call reaches %s", name);
	ok(tail_site(10) == 10 + added, "tail call reaches %s", name);
	ok(loop_site(0, 100) == 100 * added, "call in a loop reaches %s", name);
	ok(twice_site(10) == 21 + 2 * added, "two calls in one function reach %s", name);
	ok(cond_tail_site(10) == 10 + added && cond_tail_site(5) == -5,
	   "call under a condition reaches %s", name);
#ifndef SHUNT_GENERIC
	ok(jcc_site(-10) == -10 + added && jcc_site(10) == -1, "conditional tail call reaches %s",
	   name);
#endif
}

static void test_update(void)
{
	static const struct {
		int (*fn)(int);
		int added;
		const char *name;
	} way[] = {{add2, 2, "add2"},
		   {add3, 3, "add3"},
		   {add3, 3, "add3 again"},
		   {add4, 4, "add4"},
		   {add1, 1, "add1"}};

	ok(static_call_query(st_add) == (void *)add1, "query tells what it was defined with");
	all_forms_reach(1, "what it was defined with");
	for (size_t i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		ok(static_call_update(st_add, way[i].fn) == 0, "update to %s", way[i].name);
		ok(static_call_query(st_add) == (void *)way[i].fn, "query tells %s", way[i].name);
		all_forms_reach(way[i].added, way[i].name);
	}
}

/*
 * What is promised of a function, that its result follows from its arguments, is not promised of
 * a key of its type.
 */
static __attribute__((const, noinline)) int doubled(int x)
{
	return x * 2;
}

static __attribute__((const, noinline)) int tripled(int x)
{
	return x * 3;
}

static int two_calls_of_const(int (*second)(int), bool by_address)
{
	int x = zero + 5, before = static_call(st_const)(x), ret;

	ret = by_address ? static_call_update(st_const, (void *)second)
			 : static_call_update(st_const, second);
	return ret ? ret : before * 100 + static_call(st_const)(x);
}

static void test_const(void)
{
	ok(two_calls_of_const(tripled, false) == 1015,
	   "a const function: the call behind an update");
	ok(two_calls_of_const(doubled, true) == 1510, "the same with a void *");
}

static int null_calls(void)
{
	int counter = 0;

	null_call_site(&counter);
	null_tail_site(&counter);
	return counter;
}

static void test_null(void)
{
	ok(!static_call_query(st_bump), "a NULL key starts as NULL");
	ok(null_calls() == 0, "calls of a NULL key do nothing");
	ok(static_call_update(st_bump, bump_by_1) == 0 && null_calls() == 2, "NULL to bump_by_1");
	ok(static_call_query(st_bump) == (void *)bump_by_1, "query tells bump_by_1");
	ok(static_call_update(st_bump, bump_by_10) == 0 && null_calls() == 20,
	   "bump_by_1 to bump_by_10");
	ok(static_call_update(st_bump, NULL) == 0 && null_calls() == 0, "back to NULL");
	ok(!static_call_query(st_bump), "query tells NULL");
}

static void test_ret0(void)
{
	int ret;

	ok(static_call_query(st_zero) == STATIC_CALL_RET0, "a RET0 key starts as RET0");
	ok(ret0_call_site(7) == 0 && ret0_tail_site(7) == 0, "calls of a RET0 key return 0");
	ret = static_call_update(st_zero, add1);
	ok(ret == 0 && ret0_call_site(7) == 8 && ret0_tail_site(7) == 8, "RET0 to add1");
	ret = static_call_update(st_zero, STATIC_CALL_RET0);
	ok(ret == 0 && ret0_call_site(7) == 0 && ret0_tail_site(7) == 0, "back to RET0");
	ok(static_call_query(st_zero) == STATIC_CALL_RET0, "query tells RET0");
	ret = static_call_update(st_add, STATIC_CALL_RET0);
	ok(ret == 0 && call_site(3) == 0 && tail_site(3) == 0, "an ordinary key to RET0");
#ifndef SHUNT_GENERIC
	ok(jcc_site(-3) == 0 && jcc_site(3) == -1, "conditional tail call under RET0");
#endif
	ok(static_call_update(st_add, add1) == 0 && call_site(3) == 4, "and back");
}

static bool same_big(struct big a, struct big b)
{
	return a.d[0] == b.d[0] && a.d[1] == b.d[1] && a.d[2] == b.d[2] && a.l == b.l;
}

static void test_signatures(void)
{
	struct big big = {{1.5, 2.5, 3.5}, 4};
	struct big reversed = {{3.5, 2.5, 1.5}, -9};
	int here;

	ok(static_call(st_scale)(1.5, 0.25f) == 3.25, "floating point");
	ok(static_call_update(st_scale, scale3) == 0 && static_call(st_scale)(1.5, 0.25f) == 4.75,
	   "floating point, updated");
	big.l -= 5;
	ok(same_big(static_call(st_big)(big, 5), (struct big){{1.5, 2.5, 3.5}, 4}),
	   "struct by value, hidden pointer to the result");
	big.l += 5;
	ok(static_call_update(st_big, big_reverse) == 0 &&
		   same_big(static_call(st_big)(big, 5), reversed),
	   "struct by value, updated");
	ok(static_call(st_ten)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) == 385, "ten arguments");
	ok(static_call_update(st_ten, ten_args_signed) == 0 &&
		   static_call(st_ten)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) == -55,
	   "ten arguments, updated");
	ok(static_call(st_var)(3, 4, 5, 6) == 15, "variable arguments");
	ok(static_call_update(st_var, product_of) == 0 && static_call(st_var)(3, 4, 5, 6) == 120,
	   "variable arguments, updated");
	ok(!static_call(st_pointer)(&here), "RET0 of a pointer is NULL");
	ok(static_call_update(st_pointer, pointer_self) == 0 &&
		   static_call(st_pointer)(&here) == &here,
	   "pointer, updated");
	ok(!static_call(st_bool)(1), "RET0 of a bool is false");
	ok(static_call_update(st_bool, is_positive) == 0 && static_call(st_bool)(1) &&
		   !static_call(st_bool)(-1),
	   "bool, updated");
}

void test_calls(void)
{
	test_update();
	test_const();
	test_null();
	test_ret0();
	test_signatures();
}

/* -------------------------------------------------------------------- errors */

static char logged[512];

static void keep_message(const char *message, void *arg)
{
	(void)arg;
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static void check_message(const char *about)
{
#ifdef SHUNT_GENERIC
	(void)about;
#else
	ok(strstr(shunt_last_error(), about) && !strcmp(shunt_last_error(), logged),
	   "the message is about %s: %s", about, shunt_last_error());
#endif
}

void test_errors(void)
{
	struct shunt_stats before, after;

	shunt_set_log(keep_message, NULL);
	shunt_get_stats(&before);

	ok(__static_call_update(NULL, (void (*)(void))add2) == -EINVAL, "no key: -EINVAL");
	check_message("no key");
	ok(__static_call_update(NULL, NULL) == -EINVAL, "no key and no function: -EINVAL");
	ok(static_call_update(st_add, NULL) == -EINVAL, "NULL for a key that is not nullable");
	check_message("st_add");
	ok(call_site(1) == 2 && tail_site(1) == 2 && static_call_query(st_add) == (void *)add1,
	   "and nothing has changed");
	ok(static_call_update(st_zero, NULL) == -EINVAL && ret0_call_site(7) == 0,
	   "NULL for a RET0 key: -EINVAL");
	check_message("st_zero");

	shunt_get_stats(&after);
	ok(after.updates == before.updates && after.writes == before.writes,
	   "refused updates write nothing");
	shunt_set_log(NULL, NULL);
}
