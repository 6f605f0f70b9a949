/* SPDX-License-Identifier: MIT */
/*
 * A plugin that was linked with libshunt.a: it brings a libshunt of its own and takes it away.
 * Built again as the control, with what closes descriptors when it is unloaded taken out.
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/one_two.h"

#define PUBLIC __attribute__((visibility("default")))

DEFINE_STATIC_CALL(carried, one);
DEFINE_STATIC_KEY_FALSE(carried_branch);

PUBLIC int carrier_call(void);
PUBLIC int carrier_set(int on);
PUBLIC int carrier_policy(int policy);

int carrier_call(void)
{
	return static_call(carried)() + (static_branch_unlikely(&carried_branch) ? 10 : 0);
}

int carrier_set(int on)
{
	int ret = on ? static_call_update(carried, two) : static_call_update(carried, one);

	if (ret)
		return ret;
	return on ? static_branch_enable(&carried_branch) : static_branch_disable(&carried_branch);
}

int carrier_policy(int policy)
{
	shunt_set_log(NULL, NULL);
	return shunt_set_poke((enum shunt_poke_policy)policy);
}

#ifdef CONTROL
void __wrap_shunt_text_close(void);
void __wrap_shunt_text_close(void)
{
}
#endif
