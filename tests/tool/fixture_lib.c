/* SPDX-License-Identifier: MIT */
/* The fixture's other module, or other file: the keys that the first one imports. */
#include "fixture.h"

long lib_target(long x)
{
	return x + 100;
}

/* Apart from the exported one, which another module may take the place of. */
static long hidden_target(long x)
{
	return x + 1000;
}

DEFINE_STATIC_CALL(lib_call, lib_target);
EXPORT_STATIC_CALL(lib_call);
DEFINE_STATIC_CALL(lib_hidden, hidden_target);
DEFINE_STATIC_KEY_FALSE(lib_key);
EXPORT_STATIC_KEY(lib_key);

long lib_work(long x)
{
	x = static_call(lib_call)(x) + 1;
	return static_call(lib_hidden)(x) ^ 3;
}
