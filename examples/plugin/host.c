/* SPDX-License-Identifier: MIT */
/*
 * A host whose hot path goes into a plugin while one is loaded. The plugin knows
 * nothing of Shunt; when it is unloaded, the key goes back to its default and Shunt says
 * so. (No other thread may still be running in the plugin then: that is for the
 * host to see to, as with every dlclose().)
 *
 *	cc -shared -fPIC plugin.c -o plugin.so
 *	cc host.c $(pkg-config --cflags --libs shunt) -o host && ./host ./plugin.so
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include <dlfcn.h>
#include <stdio.h>

static int keep_volume(int sample)
{
	return sample;
}

DEFINE_STATIC_CALL(filter, keep_volume);

/* The hot path. */
static void play(const char *when)
{
	printf("%-16s", when);
	for (int sample = -200; sample <= 200; sample += 100)
		printf(" %5d", static_call(filter)(sample));
	putchar('\n');
}

static void on_message(const char *message, void *arg)
{
	(void)arg;
	printf("shunt says: %s\n", message);
}

/* Load the plugin and have the filter be its function. NULL: it stays as it is. */
static void *load(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW);
	void *function = plugin ? dlsym(plugin, "filter") : NULL;

	if (!function) {
		fprintf(stderr, "%s\n", dlerror());
	} else if (!static_call_update(filter, function)) {
		return plugin;
	}
	if (plugin)
		dlclose(plugin);
	return NULL;
}

int main(int argc, char **argv)
{
	void *plugin;

	if (argc != 2) {
		fprintf(stderr, "usage: %s PLUGIN\n", argv[0]);
		return 2;
	}
	shunt_set_log(on_message, NULL);

	play("no plugin");
	plugin = load(argv[1]);
	if (!plugin)
		return 1;
	play("with the plugin");
	dlclose(plugin);
	play("unloaded");
	return static_call_query(filter) == keep_volume ? 0 : 1;
}
