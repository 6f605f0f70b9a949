/* SPDX-License-Identifier: MIT */
/*
 * The program that imports the keys of interposed_lib.c: what the library's call goes to when it
 * has been loaded, what it goes to behind an update of another key, and what it returns.
 * With INTERPOSER: a module with a function of the name of the library's.
 */
#include "interposed.h"

#ifdef INTERPOSER
long filter_default(long x)
{
	return x + 1000;
}
#else

#include <stdio.h>
#include <stdlib.h>

static long mine_first(long x)
{
	return x;
}

static long mine_second(long x)
{
	return -x;
}

DEFINE_STATIC_CALL(mine, mine_first);

int main(int argc, char **argv)
{
	long offset = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
	long x = static_call(mine)(7);

	if (static_branch_unlikely(&flag) || static_branch_unlikely(&flags[3]))
		return 1;
	printf("%s\n", lib_target_at(offset));
	if (static_call_update(mine, mine_second))
		return 1;
	printf("%s\n", lib_target_at(offset));
	printf("%ld\n", static_call(filter)(x));
	return lib_run(x) == 0;
}
#endif
