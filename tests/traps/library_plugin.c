/* SPDX-License-Identifier: MIT */
/* A plugin with a key, and a libshunt of its own. */
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "linux/trap/sigtrap.h"

int plugin_call(void);
int plugin_set(int new);
int plugin_policy(int policy);
void plugin_log(void (*fn)(const char *, void *));
void plugin_take(void);
int plugin_point(int (*function)(void));

static int old_function(void)
{
	return 1;
}

static int new_function(void)
{
	return 2;
}

DEFINE_STATIC_CALL(plugin_key, old_function);

int plugin_call(void)
{
	return static_call(plugin_key)() + 0;
}

int plugin_set(int new)
{
	return static_call_update(plugin_key, new ? new_function : old_function);
}

int plugin_policy(int policy)
{
	return shunt_set_poke((enum shunt_poke_policy)policy);
}

void plugin_log(void (*fn)(const char *, void *))
{
	shunt_set_log(fn, NULL);
}

/* As an update does that cannot go another way. */
void plugin_take(void)
{
	shunt_install_handler_early();
}

int plugin_point(int (*function)(void))
{
	return static_call_update(plugin_key, function);
}
