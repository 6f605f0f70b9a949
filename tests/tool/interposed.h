/* SPDX-License-Identifier: MIT */
/* What interposed_lib.c exports to interposed.c. */
#ifndef SHUNT_TESTS_TOOL_INTERPOSED_H
#define SHUNT_TESTS_TOOL_INTERPOSED_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#ifndef LOCAL
#define LOCAL
#endif

LOCAL long filter_default(long x);
long lib_run(long x);

/* What the call at @offset in lib_run() goes to now: "function", "trampoline". */
const char *lib_target_at(long offset);

DECLARE_STATIC_CALL(filter, lib_run);
DECLARE_STATIC_KEY_FALSE(flag);
DECLARE_STATIC_KEY_ARRAY_FALSE(flags, 4);

#endif
