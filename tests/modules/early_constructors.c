/* SPDX-License-Identifier: MIT */
/*
 * A plugin whose constructors and destructors run nearly first and last, and use keys
 * there: the program's and its own.
 */
#include "host.h"

static int early_target(int x)
{
	return x + 1;
}

static int late_target(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(early_own, early_target);

static void note(int n, int value)
{
	host_notes[n] = value;
}

KEPT static int call(int x)
{
	return static_call(early_own)(x) + 0 * x;
}

KEPT static int call_host(int x)
{
	return static_call(host_call)(x) + 0 * x;
}

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
#endif

__attribute__((constructor(50))) static void before(void)
{
	note(0, static_call_update(host_call, late_target));
	note(1, call_host(10));
	note(2, static_branch_inc(&host_branch));
	note(3, static_call_update(early_own, late_target));
	note(4, call(10));
}

__attribute__((constructor)) static void behind(void)
{
	note(5, call(10));
	note(6, call_host(10));
	note(7, static_branch_unlikely(&host_branch));
}

__attribute__((destructor)) static void leaving(void)
{
	note(8, call(10));
	note(9, static_call_update(early_own, early_target));
	note(10, call(10));
	note(11, static_branch_dec(&host_branch));
	note(12, static_branch_unlikely(&host_branch));
}

/* Behind all other destructors, but for libshunt's. */
__attribute__((destructor(50))) static void gone(void)
{
	note(13, static_call_update(host_call, host_other));
	note(14, call(10));
	note(15, static_call_update(host_call, host_default));
}
