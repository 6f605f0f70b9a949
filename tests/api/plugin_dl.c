/* SPDX-License-Identifier: MIT */
/*
 * A plugin for dlopen(). Its key st_add is its own, though the program and other
 * plugins have one of that name; st_lib is the library's.
 */
#include <shunt/static_call.h>

#define PUBLIC __attribute__((visibility("default")))

static int plugin_add1000(int x)
{
	return x + 1000;
}

static int plugin_add2000(int x)
{
	return x + 2000;
}

DEFINE_STATIC_CALL(st_add, plugin_add1000);
DECLARE_STATIC_CALL(st_lib, plugin_add1000);

PUBLIC int plugin_call(int x);
int plugin_call(int x)
{
	return static_call(st_add)(x) + 1;
}

PUBLIC int plugin_call_lib(int x);
int plugin_call_lib(int x)
{
	return static_call(st_lib)(x) + 1;
}

/* @which: 1 or 2. */
PUBLIC int plugin_update(int which);
int plugin_update(int which)
{
	return static_call_update(st_add, which == 1 ? plugin_add1000 : plugin_add2000);
}

PUBLIC void *plugin_target(void);
void *plugin_target(void)
{
	return static_call_query(st_add);
}

PUBLIC int plugin_update_lib(int (*fn)(int));
int plugin_update_lib(int (*fn)(int))
{
	return static_call_update(st_lib, fn);
}
