/* SPDX-License-Identifier: MIT */
/*
 * A plugin of many keys that comes and goes, baked or not, with an update between or without one:
 * its memory is used again, so that what the process has mapped does not grow.
 *
 * Control: what is retired is forgotten (--wrap), and it grows by each.
 */
#include <dlfcn.h>
#include <string.h>

#include "../api/tap.h"
#include "host.h"
#include <shunt/inspect.h>
#include <shunt/port.h>

#include "linux/module/arrays.h"

void *__real_shunt_port_alloc(size_t size);
void *__wrap_shunt_port_alloc(size_t size);
void __real_shunt_port_free(void *p, size_t size);
void __wrap_shunt_port_free(void *p, size_t size);
void *__real_shunt_memory_grow(void *p, size_t from, size_t to);
void *__wrap_shunt_memory_grow(void *p, size_t from, size_t to);
void __real_shunt_mods_retire(struct shunt_mod *mods, size_t max);
void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max);

static long mapped; /* pages */

static long pages(size_t size)
{
	return (long)((size + 4095) / 4096);
}

static bool is_control;

void *__wrap_shunt_port_alloc(size_t size)
{
	void *p = __real_shunt_port_alloc(size);

	mapped += p ? pages(size) : 0;
	return p;
}

void __wrap_shunt_port_free(void *p, size_t size)
{
	mapped -= p ? pages(size) : 0;
	__real_shunt_port_free(p, size);
}

void *__wrap_shunt_memory_grow(void *p, size_t from, size_t to)
{
	void *grown = __real_shunt_memory_grow(p, from, to);

	mapped += grown ? pages(to) - pages(from) : 0;
	return grown;
}

void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max)
{
	if (!is_control)
		__real_shunt_mods_retire(mods, max);
}

static bool come_and_go(const char *path, bool updates)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	int (*call)(int);
	void *symbol = handle ? dlsym(handle, "call42") : NULL;
	bool good;

	if (!symbol)
		return false;
	memcpy(&call, &symbol, sizeof(call));
	good = call(1) == 44;
	if (updates)
		good &= !static_call_update(host_call, host_other) &&
			!static_call_update(host_call, host_default);
	return !dlclose(handle) && good;
}

/* By how much it grows in 20 rounds; -1: something went wrong. */
static long growth(const char *path, bool updates)
{
	bool good = true;
	long before;

	for (int i = 0; i < 3; i++)
		good &= come_and_go(path, updates);
	before = mapped;
	for (int i = 0; i < 20; i++)
		good &= come_and_go(path, updates);
	return good ? mapped - before : -1;
}

int main(int argc, char **argv)
{
	shunt_set_log(NULL, NULL);
	for (int i = 1; i < argc; i++)
		for (int updates = 0; updates < 2; updates++) {
			const char *name = strrchr(argv[i], '/');
			long grown = growth(argv[i], updates);

			ok(!grown, "%s, %s updates: grown by %ld pages", name ? name + 1 : argv[i],
			   updates ? "with" : "no", grown);
			is_control = true;
			grown = growth(argv[i], updates);
			ok(grown > 0, "control: what is retired is lost: grown by %ld pages",
			   grown);
			is_control = false;
		}
	return tap_done();
}
