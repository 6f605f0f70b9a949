/* SPDX-License-Identifier: MIT */
/*
 * A shared object with an exported key, st_lib: the program calls it through its
 * PLT (or GOT), the library itself directly; either may update it. A static
 * program has it linked in.
 */
#include "suite.h"

int lib_default(int x)
{
	return x + 100;
}

int lib_other(int x)
{
	return x + 200;
}

DEFINE_STATIC_CALL(st_lib, lib_default);
EXPORT_STATIC_CALL(st_lib);

int lib_call(int x)
{
	return static_call(st_lib)(x) + 1;
}

int lib_tail(int x)
{
	return static_call(st_lib)(x);
}

int lib_update(int (*fn)(int))
{
	return static_call_update(st_lib, fn);
}

void *lib_query(void)
{
	return static_call_query(st_lib);
}

void *lib_ret0_address(void)
{
	return STATIC_CALL_RET0;
}
