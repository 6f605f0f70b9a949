/* SPDX-License-Identifier: MIT */
/* A site of each kind, and so many calls that they are written in runs. For one file of a program.
 */
#ifndef SHUNT_TESTS_SITES_OF_EACH_KIND_H
#define SHUNT_TESTS_SITES_OF_EACH_KIND_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"

#include "../common/branch_site.h"
#include "../common/call_site.h"

static void set(int *x)
{
	*x = 1;
}

DEFINE_STATIC_CALL(many, one);
DEFINE_STATIC_CALL_NULL(null, set);

KEEP static int null_site(void)
{
	int x = 0;

	static_call_cond(null)(&x);
	return x;
}

#define TEN(x) x x x x x x x x x x

KEEP static int many_sites(void)
{
	int sum = 0;

	TEN(TEN(sum += static_call(many)();))
	return sum;
}

#endif
