/* SPDX-License-Identifier: MIT */
/*
 * Keys of shared objects: exported ones, which the program calls through its PLT;
 * and hidden ones of plugins that come and go.
 */
#include <errno.h>
#include <string.h>

#include "suite.h"
#include "tap.h"

KEEP static int exe_call_lib(int x)
{
	return static_call(st_lib)(x) + 1;
}

KEEP static int exe_tail_lib(int x)
{
	return static_call(st_lib)(x);
}

static bool all_reach(int added)
{
	return exe_call_lib(1) == added + 2 && exe_tail_lib(1) == added + 1 &&
	       lib_call(1) == added + 2 && lib_tail(1) == added + 1;
}

static void test_exported(void)
{
	int ret;

	ok(all_reach(100), "an exported key is called from both sides");
	ret = static_call_update(st_lib, lib_other);
	ok(ret == 0 && all_reach(200), "updated by the program to the library's function");
	ok(static_call_query(st_lib) == (void *)lib_other && lib_query() == (void *)lib_other,
	   "query tells the same on both sides");
	ok(lib_update(add3) == 0 && all_reach(3), "updated by the library to the program's");
	ok(static_call_query(st_lib) == (void *)add3 && lib_query() == (void *)add3,
	   "query tells the same on both sides");
	ret = static_call_update(st_lib, STATIC_CALL_RET0);
	ok(ret == 0 && exe_call_lib(1) == 1 && exe_tail_lib(1) == 0 && lib_call(1) == 1 &&
		   lib_tail(1) == 0,
	   "updated to RET0");
	ok(lib_ret0_address() == STATIC_CALL_RET0 && lib_query() == STATIC_CALL_RET0,
	   "RET0 has one address everywhere");
	ok(lib_update(lib_default) == 0 && all_reach(100), "and back");
}

/*
 * A call that reaches a trampoline would never end. What begins as one and jumps through another
 * word is a function like any other.
 */
static void test_trampolines(void)
{
#ifndef SHUNT_GENERIC
	shunt_set_log(NULL, NULL);
	ok(static_call_update(st_add, static_call(st_add)) == -EINVAL, "its own trampoline");
	ok(strstr(shunt_last_error(), "static_call_query"), "and it says so: %s",
	   shunt_last_error());
#ifdef __PIC__ /* else linkers refuse the address of another module's protected function */
	ok(static_call_update(st_add, static_call(st_lib)) == -EINVAL, "another one's");
	ok(static_call_update(st_lib, static_call(st_lib)) == -EINVAL && all_reach(100),
	   "another module's");
#endif
	ok(call_site(1) == 2 && tail_site(1) == 2 && static_call_query(st_add) == (void *)add1,
	   "and nothing has changed");
	ok(static_call_update(st_add, jump_to_add2) == 0 && call_site(1) == 3 && tail_site(1) == 3,
	   "a function that jumps through a pointer");
	ok(static_call_update(st_add, jump_astray) == 0 && static_call_update(st_add, add1) == 0 &&
		   call_site(1) == 2,
	   "one that jumps through what is not there");
#endif
}

#ifdef SUITE_STATIC

static void test_plugin(void)
{
	skip("plugins", "a static executable");
}

#else

#include <dlfcn.h>

struct plugin {
	void *handle;
	int (*call)(int);
	int (*call_lib)(int);
	int (*update)(int);
	void *(*target)(void);
	int (*update_lib)(int (*)(int));
};

static bool plugin_open(struct plugin *p)
{
	p->handle = dlopen(options.plugin, RTLD_NOW | RTLD_LOCAL);
	if (!p->handle) {
		diag("%s", dlerror());
		return false;
	}
	*(void **)&p->call = dlsym(p->handle, "plugin_call");
	*(void **)&p->call_lib = dlsym(p->handle, "plugin_call_lib");
	*(void **)&p->update = dlsym(p->handle, "plugin_update");
	*(void **)&p->target = dlsym(p->handle, "plugin_target");
	*(void **)&p->update_lib = dlsym(p->handle, "plugin_update_lib");
	return p->call && p->call_lib && p->update && p->target && p->update_lib;
}

/* What it does from load to unload; the messages tell which time it was. */
static void plugin_round(int round)
{
	struct plugin p = {0};
	int ret;

	if (!ok(plugin_open(&p), "round %d: the plugin loads", round))
		return;
	ok(p.call(1) == 1002 && p.call_lib(1) == 102, "round %d: its calls reach", round);
	ok(p.update(2) == 0 && p.call(1) == 2002 && call_site(1) == 2,
	   "round %d: its st_add is not ours", round);
	check_sites("plugin", "st_add", "plugin_dl", p.target(), 1);
	ret = static_call_update(st_add, add4);
	ok(ret == 0 && p.call(1) == 2002 && call_site(1) == 5, "round %d: nor ours its", round);
	ok(p.update_lib(lib_other) == 0 && all_reach(200) && p.call_lib(1) == 202,
	   "round %d: it updates the library's", round);
	ret = static_call_update(st_lib, lib_default);
	ok(ret == 0 && p.call_lib(1) == 102, "round %d: it sees the program's update", round);
	ret = static_call_update(st_add, add1);
	ok(dlclose(p.handle) == 0, "round %d: it is unloaded", round);
	ok(ret == 0 && call_site(1) == 2 && all_reach(100), "round %d: we go on", round);
	ret = static_call_update(st_lib, lib_other);
	ok(ret == 0 && all_reach(200), "round %d: its sites are forgotten", round);
	ret = static_call_update(st_lib, lib_default);
	ok(ret == 0, "round %d: and back", round);
}

static int count_key(const struct shunt_key_info *key, void *arg)
{
	*(int *)arg += !strcmp(key->name, "st_add");
	return 0;
}

static void test_plugin(void)
{
	int keys = 0;

	if (!options.plugin) {
		skip("plugins", "no --plugin");
		return;
	}
	for (int round = 1; round <= 4; round++)
		plugin_round(round);
#ifndef SHUNT_GENERIC
	ok(shunt_for_each_key(count_key, &keys) == 0 && keys == 1, "the plugin's key is gone");
#else
	(void)keys;
	(void)count_key;
#endif
}

#endif

void test_modules(void)
{
	test_exported();
	test_trampolines();
	test_plugin();
}
