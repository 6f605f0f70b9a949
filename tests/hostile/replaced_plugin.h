/* SPDX-License-Identifier: MIT */
/* The keys of the plugin whose file is replaced. */
#ifndef SHUNT_TESTS_HOSTILE_REPLACED_PLUGIN_H
#define SHUNT_TESTS_HOSTILE_REPLACED_PLUGIN_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

long plugin_one(long x), plugin_two(long x);
DECLARE_STATIC_CALL(plugin_call, plugin_one);
DECLARE_STATIC_KEY_FALSE(plugin_key);

#endif
