/* SPDX-License-Identifier: MIT */
/*
 * The negative control of tool/selftest-*: with this, the shunt program is not told why updates
 * are not made in the way that it asked for.
 */
#include <stddef.h>

#include <shunt/inspect.h>

void __real_shunt_get_ways(struct shunt_ways *ways);
void __wrap_shunt_get_ways(struct shunt_ways *ways);

void __wrap_shunt_get_ways(struct shunt_ways *ways)
{
	__real_shunt_get_ways(ways);
	ways->why = NULL;
}
