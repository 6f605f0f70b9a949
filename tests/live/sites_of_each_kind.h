/* SPDX-License-Identifier: MIT */
/* A site of each kind, and so many calls that they are written in runs. For one file of a program.
 */
#ifndef SHUNT_TESTS_SITES_OF_EACH_KIND_H
#define SHUNT_TESTS_SITES_OF_EACH_KIND_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "../common/one_two.h"

static void set(int *x)
{
	*x = 1;
}

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_CALL(many, one);
DEFINE_STATIC_CALL_NULL(null, set);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	return static_call(call)() + 0;
}

KEEP static int null_site(void)
{
	int x = 0;

	static_call_cond(null)(&x);
	return x;
}

KEEP static int branch(void)
{
	return static_branch_unlikely(&key) ? 1 : 0;
}

#define TEN(x) x x x x x x x x x x

KEEP static int many_sites(void)
{
	int sum = 0;

	TEN(TEN(sum += static_call(many)();))
	return sum;
}

#endif
