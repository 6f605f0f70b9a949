/* SPDX-License-Identifier: MIT */
/* A static call that goes to one(), and a site of it. For one file of a program. */
#ifndef SHUNT_TESTS_CALL_SITE_H
#define SHUNT_TESTS_CALL_SITE_H

#include <shunt/static_call.h>

#include "../api/tap.h"
#include "one_two.h"

DEFINE_STATIC_CALL(call, one);

KEEP static int site(void)
{
	return static_call(call)() + 0;
}

#endif
