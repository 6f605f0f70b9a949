/* SPDX-License-Identifier: MIT */
/*
 * What registered.c loads: a module that uses Shunt, with -fpatchable-function-entry=5. It is
 * mapped, and its entries are known, before its constructors make it known to libshunt; and it is
 * known no more before it is unmapped.
 */
#include <shunt/static_key.h>

DEFINE_STATIC_KEY_FALSE(registered_key);

int registered_plug(int x);

/* Of the program that loads it: before its module is registered, and behind the end of that. */
void on_early(void);
void on_late(void);

__attribute__((constructor(101), patchable_function_entry(0))) static void early(void)
{
	on_early();
}

__attribute__((destructor(101), patchable_function_entry(0))) static void late(void)
{
	on_late();
}

__attribute__((noinline)) int registered_plug(int x)
{
	return static_branch_unlikely(&registered_key) ? x : x + 1;
}
