/* SPDX-License-Identifier: MIT */
/* The key of a test's program, and the site at which it is called. */
#ifndef SHUNT_TESTS_TRAPS_KEY_H
#define SHUNT_TESTS_TRAPS_KEY_H

#include <shunt/static_call.h>

#include "../api/tap.h"

static KEEP int old_function(void)
{
	return 1;
}

static KEEP int new_function(void)
{
	return 2;
}

DEFINE_STATIC_CALL(key, old_function);

static KEEP int go(void)
{
	return static_call(key)() + 0;
}

#endif
