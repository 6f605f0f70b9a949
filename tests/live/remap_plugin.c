/* SPDX-License-Identifier: MIT */
/* A plugin with a static call of its own, for test_remap.c; built twice, as 1 and as 2. */
#include <shunt/static_call.h>

static int none(void)
{
	return 0;
}

static int number(void)
{
	return NUMBER;
}

DEFINE_STATIC_CALL(plugin, none);

__attribute__((visibility("default"))) int plugin_call(void);
__attribute__((visibility("default"))) int plugin_update(int on);

int plugin_call(void)
{
	return static_call(plugin)() + 100;
}

int plugin_update(int on)
{
	return on ? static_call_update(plugin, number) : static_call_update(plugin, none);
}
