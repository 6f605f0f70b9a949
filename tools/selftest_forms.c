/* SPDX-License-Identifier: MIT */
/*
 * The self-test: one site of each form that libshunt pokes, with the keys that they belong to.
 * Those of static calls stand in selftest_sites_CPU.S, so that they have these forms whatever the
 * compiler and its options.
 */
#include "selftest_parts.h"

#include <shunt/static_call.h>
#include <shunt/static_key.h>

static long twice(long x)
{
	return 2 * x;
}

/* Kept apart: were they alike, a linker could make one of them. */
static long thrice(long x)
{
	return 3 * x;
}

static __thread long added;

static void add(long x)
{
	added += x;
}

DEFINE_STATIC_CALL(selftest, twice);
DEFINE_STATIC_CALL_NULL(selftest_null, add);
DEFINE_STATIC_CALL_RET0(selftest_ret0, twice);
DEFINE_STATIC_KEY_FALSE(selftest_long);
DEFINE_STATIC_KEY_FALSE(selftest_short);

/* selftest_sites_CPU.S */
long site_call(long x);
long site_tail(long x);
void site_null_call(long x);
void site_null_tail(long x);
long site_ret0_call(long x);
long site_ret0_tail(long x);

static long run_null_call(long x)
{
	added = 0;
	site_null_call(x);
	return added;
}

static long run_null_tail(long x)
{
	added = 0;
	site_null_tail(x);
	return added;
}

/* The compiler makes a test of five bytes for the unlikely one, a short jmp for the likely. */
static __attribute__((noinline)) long site_branch(long x)
{
	if (static_branch_unlikely(&selftest_long))
		return 3 * x;
	return 2 * x;
}

static __attribute__((noinline)) long site_branch_short(long x)
{
	if (static_branch_likely(&selftest_short))
		return 3 * x;
	return 2 * x;
}

/* Each takes its key to the second value, or back to the first. */
static int change_call(bool second)
{
	return static_call_update(selftest, second ? thrice : twice);
}

static int change_null(bool second)
{
	return static_call_update(selftest_null, second ? add : NULL);
}

static int change_ret0(bool second)
{
	return second ? static_call_update(selftest_ret0, twice)
		      : static_call_update(selftest_ret0, STATIC_CALL_RET0);
}

static int change_long(bool second)
{
	return second ? static_branch_enable(&selftest_long)
		      : static_branch_disable(&selftest_long);
}

static int change_short(bool second)
{
	return second ? static_branch_enable(&selftest_short)
		      : static_branch_disable(&selftest_short);
}

/* Those of this CPU alone. */
#include SELFTEST_CPU_FORMS

const struct form forms[] = {
	{"call", site_call, change_call, 2 * X, 3 * X, false},
	{"tail call", site_tail, change_call, 2 * X, 3 * X, false},
	CPU_FORMS{"NULL call", run_null_call, change_null, 0, X, true},
	{"NULL tail call", run_null_tail, change_null, 0, X, true},
	{"RET0 call", site_ret0_call, change_ret0, 0, 2 * X, false},
	{"RET0 tail call", site_ret0_tail, change_ret0, 0, 2 * X, false},
	{BRANCH_FORM, site_branch, change_long, 2 * X, 3 * X, true},
	{SHORT_BRANCH_FORM, site_branch_short, change_short, 2 * X, 3 * X, true},
};

const size_t nr_forms = sizeof(forms) / sizeof(forms[0]);
