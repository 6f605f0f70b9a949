/* SPDX-License-Identifier: MIT */
/*
 * A plugin that has a libshunt of its own and tests a static key of the program's: neither changes
 * the other's keys, and no update says that it has reached a test that it has not.
 *
 *	test_two_libshunts CONTROL FOLLOWER|- PLUGIN...
 *
 * FOLLOWER has the program's libshunt. Control: the plugin's libshunt takes the key for its own.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../traps/rows.h"

int host_one(void);
int host_one(void)
{
	return 1;
}

static int host_two(void)
{
	return 2;
}

DEFINE_STATIC_KEY_FALSE(host_branch);
EXPORT_STATIC_KEY(host_branch);
DEFINE_STATIC_CALL(host_call, host_one);
EXPORT_STATIC_CALL(host_call);

static int host_test(void)
{
	return static_branch_unlikely(&host_branch) ? 1 : 0;
}

static const char *path;

struct plugin {
	void *handle;
	int (*test)(void), (*call)(void), (*enable)(void), (*update)(void), (*own)(void);
};

static void find(void *handle, const char *name, int (**function)(void))
{
	void *symbol = dlsym(handle, name);

	must(symbol != NULL);
	memcpy(function, &symbol, sizeof(symbol));
}

static struct plugin functions_of(void *handle)
{
	struct plugin plugin = {.handle = handle};

	must(handle != NULL);
	find(handle, "plugin_test", &plugin.test);
	find(handle, "plugin_call", &plugin.call);
	find(handle, "plugin_enable", &plugin.enable);
	find(handle, "plugin_update", &plugin.update);
	find(handle, "plugin_own", &plugin.own);
	return plugin;
}

static struct plugin load(void)
{
	return functions_of(dlopen(path, RTLD_NOW));
}

static int find_why(const struct shunt_key_info *info, void *arg)
{
	if (!strcmp(info->name, "host_branch"))
		*(const char **)arg = info->why;
	return 0;
}

static const char *why(void)
{
	const char *text = NULL;

	must(!shunt_for_each_key(find_why, &text));
	return text;
}

static void expect_refused(void)
{
	int before = host_test();

	must(static_branch_enable(&host_branch) == -EAGAIN);
	must(strstr(shunt_last_error(), "another libshunt") != NULL);
	must(static_branch_disable(&host_branch) == -EAGAIN);
	must(static_branch_inc(&host_branch) == -EAGAIN);
	must(host_test() == before && why() && strstr(why(), "another libshunt"));
}

static void expect_free(void)
{
	must(!static_branch_enable(&host_branch) && host_test());
	must(!static_branch_disable(&host_branch) && !host_test());
	must(!why());
}

static void is_refused(void)
{
	struct plugin plugin, again;

	expect_free();
	plugin = load();
	expect_refused();
	must(!plugin.test() && plugin.enable() == -EAGAIN && !host_test());
	must(!static_call_update(host_call, host_two) && plugin.call() == 12);
	must(plugin.update() == -EAGAIN && static_call(host_call)() == 2);
	must(!plugin.own());
	again = load();
	must(!dlclose(again.handle));
	expect_refused();
	must(!dlclose(plugin.handle));
	expect_free();
}

/* What it says at its start is what it was compiled to. */
static void is_on_when_it_comes(void)
{
	struct plugin plugin;

	must(!static_branch_enable(&host_branch));
	plugin = load();
	expect_refused();
	must(!plugin.test() && host_test());
	must(!dlclose(plugin.handle));
	must(!static_branch_disable(&host_branch));
	expect_free();
}

static _Atomic bool over;

static void *switch_it(void *arg)
{
	for (int i = 0; !over; i++) {
		int ret = i & 1 ? static_branch_disable(&host_branch)
				: static_branch_enable(&host_branch);

		must(!ret || ret == -EAGAIN);
		must(!static_call_update(host_call, i & 1 ? host_one : host_two));
		counts->second += !ret;
	}
	return arg;
}

static void comes_and_goes(void)
{
	pthread_t thread;

	shunt_set_log(NULL, NULL);
	must(!pthread_create(&thread, NULL, switch_it, NULL));
	for (int i = 0; i < 40; i++) {
		unsigned before = counts->second;
		struct plugin plugin = load();

		must(plugin.call() >= 11 && !plugin.own());
		(void)plugin.test();
		must(!dlclose(plugin.handle));
		while (counts->second < before + 2)
			;
	}
	over = true;
	must(!pthread_join(thread, NULL));
	counts->second = 0;
}

/* ------------------------------------------------- a module that comes before the key's */

static const char *self;

static void run_early(const char *mode)
{
	must(!setenv("LD_PRELOAD", path, 1));
	(void)execl(self, self, mode, (char *)NULL);
	_exit(1);
}

static void is_early(void)
{
	run_early("early");
}

static void is_early_and_follows(void)
{
	run_early("follows");
}

static int with_early(bool follows)
{
	struct plugin plugin = functions_of(dlopen(NULL, RTLD_NOW));

	if (!follows) {
		expect_refused();
		must(!plugin.test());
		return 0;
	}
	must(!static_branch_enable(&host_branch) && host_test() && plugin.test());
	must(!static_branch_disable(&host_branch) && !host_test() && !plugin.test());
	must(!plugin.enable() && host_test() && plugin.test() && !why());
	return 0;
}

int main(int argc, char **argv)
{
	static struct row rows[] = {
		{"an update is refused, and no longer when the plugin is gone", .run = is_refused},
		{"the key is on when the plugin comes", .run = is_on_when_it_comes},
		{"a plugin comes and goes while the key is switched", .run = comes_and_goes},
		{"it comes before the program", .run = is_early},
	};
	static struct row follows = {"it comes before the program, whose libshunt it has",
				     .run = is_early_and_follows};

	(void)unsetenv("LD_PRELOAD");
	if (argc == 2)
		return with_early(!strcmp(argv[1], "follows"));
	self = argv[0];
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (argc < 4 || counts == MAP_FAILED)
		return 1;
	for (int i = 1; i < argc; i++) {
		path = argv[i];
		if (i == 2 && strcmp(path, "-") != 0)
			run_row(&follows);
		for (size_t k = 0; i != 2 && k < sizeof(rows) / sizeof(rows[0]); k++) {
			rows[k].is_control = i == 1;
			run_row(&rows[k]);
		}
	}
	return tap_done();
}
