/* SPDX-License-Identifier: MIT */
/* A plugin with a key of its own, whose targets are out of its reach. Built twice. */
#include "veneer_area.h"

static long target(long arg)
{
	return arg + NUMBER;
}

DEFINE_STATIC_CALL(area_plugin_call, target);

__attribute__((noinline)) static long call(long arg)
{
	return static_call(area_plugin_call)(arg) + 1000;
}

static int update(area_fn *fn)
{
	return static_call_update(area_plugin_call, fn);
}

static long spare(long arg)
{
	return arg + 1000;
}

extern const struct area_plugin plugin;
__attribute__((visibility("default"))) const struct area_plugin plugin = {
	.module = &__shunt_module,
	.call = call,
	.update = update,
	.target = target,
	.spare = spare,
};
