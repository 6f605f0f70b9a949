/* SPDX-License-Identifier: MIT */
/* The plugin whose file is replaced: a site. */
#include "replaced_plugin.h"

long plugin_site(long x);
long plugin_site(long x)
{
	return static_call(plugin_call)(x) + 0 * x;
}
