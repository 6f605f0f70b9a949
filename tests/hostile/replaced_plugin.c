/* SPDX-License-Identifier: MIT */
/* The plugin whose file is replaced: a site of each of its keys. */
#include "replaced_plugin.h"

long plugin_site(long x);
long plugin_site(long x)
{
	return static_call(plugin_call)(x) + 0 * x;
}

long plugin_branch(long x);
long plugin_branch(long x)
{
	return static_branch_unlikely(&plugin_key) ? x + 2 : x + 1;
}
