/* SPDX-License-Identifier: MIT */
/*
 * A shared object that exports its keys and uses them itself. What the call starts out with
 * is in the same file; with -DLOCAL=static nobody can take its place.
 */
#include "interposed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

LOCAL long filter_default(long x)
{
	return x + 1;
}

DEFINE_STATIC_CALL(filter, filter_default);
EXPORT_STATIC_CALL(filter);
DEFINE_STATIC_CALL(foreign, labs);
DEFINE_STATIC_KEY_FALSE(flag);
EXPORT_STATIC_KEY(flag);
DEFINE_STATIC_KEY_ARRAY_FALSE(flags, 4);
EXPORT_STATIC_KEY(flags);
DEFINE_STATIC_KEY_ARRAY_FALSE(single, 1);

long lib_run(long x)
{
	if (static_branch_unlikely(&flag))
		return 0;
	if (static_branch_unlikely(&flags[2]))
		x += 4;
	x = static_call(foreign)(x);
	return static_call(filter)(x);
}

const char *lib_target_at(long offset)
{
	uintptr_t site = (uintptr_t)lib_run + (uintptr_t)offset;
	int32_t rel;

	memcpy(&rel, (const void *)(site + 1), sizeof(rel));
	return site + 5 + (uintptr_t)(intptr_t)rel == (uintptr_t)filter_default ? "function"
										: "trampoline";
}
