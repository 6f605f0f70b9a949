/* SPDX-License-Identifier: MIT */
/*
 * A plugin with keys of its own, hidden and exported, and sites of the program's. Built
 * twice (NUMBER is 1 or 2), with keys of the same names.
 */
#include "host.h"

#ifndef NUMBER
#define NUMBER 1
#endif

static int target(int x)
{
	return x + 1000 * NUMBER;
}

static int own_default(int x)
{
	return x + 10 * NUMBER;
}

DEFINE_STATIC_CALL(plugin_own, own_default);
DEFINE_STATIC_KEY_TRUE(plugin_branch);
DEFINE_STATIC_CALL(plugin_exported, own_default);
EXPORT_STATIC_CALL(plugin_exported);
DEFINE_STATIC_KEY_FALSE(plugin_exported_branch);
EXPORT_STATIC_KEY(plugin_exported_branch);

KEPT static int own(int x)
{
	return static_call(plugin_own)(x) + 0 * x;
}

KEPT static bool own_branch(void)
{
	return static_branch_likely(&plugin_branch);
}

KEPT static int exported(int x)
{
	int sum = static_call(plugin_exported)(x);

	return static_branch_unlikely(&plugin_exported_branch) ? -sum : sum;
}

KEPT static int host(int x)
{
	return static_call(host_call)(x) + static_call(host_call)(x);
}

KEPT static int host_tail(int x)
{
	return static_call(host_call)(x);
}

KEPT static bool host_is_on(void)
{
	if (static_branch_unlikely(&host_branch))
		return true;
	__asm__ volatile("nop");
	return false;
}

static int update(bool other)
{
	return other ? static_call_update(plugin_own, target)
		     : static_call_update(plugin_own, own_default);
}

static int turn(bool on)
{
	return on ? static_branch_enable(&plugin_branch) : static_branch_disable(&plugin_branch);
}

static int update_host(int (*fn)(int))
{
	return static_call_update(host_call, fn);
}

PUBLIC extern const struct plugin plugin;
const struct plugin plugin = {
	NUMBER,    target,     own,    own_branch, exported,    host,
	host_tail, host_is_on, update, turn,       update_host,
};
