/* SPDX-License-Identifier: MIT */
/* A static key that is off, and a branch of it. For one file of a program. */
#ifndef SHUNT_TESTS_BRANCH_SITE_H
#define SHUNT_TESTS_BRANCH_SITE_H

#include <shunt/static_key.h>

#include "../api/tap.h"

DEFINE_STATIC_KEY_FALSE(key);

KEEP static int branch(void)
{
	return static_branch_unlikely(&key) ? 1 : 0;
}

#endif
