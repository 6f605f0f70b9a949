/* SPDX-License-Identifier: MIT */
/* A plugin that tests and calls the keys of the program; OWN: and has some itself. */
#include <errno.h>

#include <shunt/static_call.h>
#include <shunt/static_key.h>

int host_one(void);
DECLARE_STATIC_KEY_FALSE(host_branch);
DECLARE_STATIC_CALL(host_call, host_one);

int plugin_test(void);
int plugin_test(void)
{
	return static_branch_unlikely(&host_branch) ? 1 : 0;
}

int plugin_call(void);
int plugin_call(void)
{
	return static_call(host_call)() + 10;
}

int plugin_enable(void);
int plugin_enable(void)
{
	return static_branch_enable(&host_branch);
}

int plugin_update(void);
int plugin_update(void)
{
	return static_call_update(host_call, host_one);
}

int plugin_own(void);
#ifdef OWN
DEFINE_STATIC_KEY_FALSE(plugin_branch);

int plugin_own(void)
{
	int before = static_branch_unlikely(&plugin_branch) ? 1 : 0;
	int ret = static_branch_enable(&plugin_branch);

	if (before || ret || !static_branch_unlikely(&plugin_branch))
		return -EINVAL;
	return static_branch_disable(&plugin_branch);
}
#else
int plugin_own(void)
{
	return 0;
}
#endif
