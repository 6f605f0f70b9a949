/* SPDX-License-Identifier: MIT */
/*
 * Before main: static calls work from the program's first instruction on, and an
 * update that comes before its module has registered is not lost.
 */
#include "suite.h"
#include "tap.h"

/* Constructors of priority 50 come right behind the one that registers the module. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
#endif

DEFINE_STATIC_CALL(st_early, add1);
DEFINE_STATIC_CALL_NULL(st_early_null, bump_by_1);

KEEP static int early_site(int x)
{
	return static_call(st_early)(x) - zero;
}

KEEP static void early_null_site(int *counter)
{
	static_call_cond(st_early_null)(counter);
}

/* What each stage got; -1: it did not run. */
static int in_constructor = -1, constructor_update = -1, after_constructor_update = -1;

#ifndef SUITE_SANITIZED /* whose run-time is not ready then */
static int in_preinit = -1, preinit_update = -1, after_preinit_update = -1;

static void preinit(void)
{
	int counter = 0;

	early_null_site(&counter);
	in_preinit = early_site(10) + counter;
	preinit_update = static_call_update(st_early, add2);
	after_preinit_update = early_site(10);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(void) = preinit;

/*
 * A resolver runs while the program is being relocated: it may call what needs no
 * symbol of another module.
 */
static int ifunc_saw;

static int resolved(void)
{
	return ifunc_saw;
}

KEEP static int ifunc_site(int x)
{
	return static_call(st_early)(x) - 10;
}

/* clang 14 does not see that the attribute below uses it. */
__attribute__((used)) static int (*resolve(void))(void)
{
	ifunc_saw = ifunc_site(10);
	return resolved;
}

__attribute__((ifunc("resolve"))) int early_ifunc(void);
#endif

__attribute__((constructor(50))) static void constructor_50(void)
{
	int counter = 0;

	in_constructor = early_site(10);
	constructor_update = static_call_update(st_early, add3);
	after_constructor_update = early_site(10);
	if (static_call_update(st_early_null, bump_by_10) == 0) {
		early_null_site(&counter);
		after_constructor_update += counter;
	}
}

void test_early(void)
{
	int counter = 0;
#ifdef SUITE_SANITIZED
	ok(in_constructor == 11, "a constructor of priority 50 calls");
#else
	ok(in_preinit == 11, "a function in .preinit_array calls");
	ok(preinit_update == 0 && after_preinit_update == 12, "and updates");
	ok(early_ifunc() == 1, "an ifunc resolver calls");
	ok(in_constructor == 12, "a constructor of priority 50 sees the update");
#endif
	ok(constructor_update == 0 && after_constructor_update == 23, "it updates too");
	ok(early_site(10) == 13, "main sees the last update");
	ok(static_call_query(st_early) == (void *)add3, "and so does query");
	early_null_site(&counter);
	ok(counter == 10, "a NULL key that was updated early");
	check_sites("updated before registration", "st_early", NULL, (void *)add3, 1);
	check_sites("NULL key updated before registration", "st_early_null", NULL,
		    (void *)bump_by_10, 1);
}
