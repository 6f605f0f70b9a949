/* SPDX-License-Identifier: MIT */
/* A plugin with 256 tests of one of the program's keys, and calls of a key of its own. */
#include "host.h"

#define FOUR(x)    x x x x
#define TEST       on += static_branch_unlikely(&host_branch) ? 1 : 0;
#define MANY_TESTS FOUR(FOUR(FOUR(FOUR(TEST))))

/* How many of them say that it is on. */
PUBLIC int many_on(void);
PUBLIC int many_on(void)
{
	int on = 0;

	MANY_TESTS
	return on;
}
