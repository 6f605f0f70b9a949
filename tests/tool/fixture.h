/* SPDX-License-Identifier: MIT */
/* What the two files of the fixture share. */
#ifndef SHUNT_TESTS_TOOL_FIXTURE_H
#define SHUNT_TESTS_TOOL_FIXTURE_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

long lib_target(long x);
long lib_work(long x);

DECLARE_STATIC_CALL(lib_call, lib_target);
DECLARE_STATIC_KEY_FALSE(lib_key);

#endif
