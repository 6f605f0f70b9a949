/* SPDX-License-Identifier: MIT */
/*
 * What a trap handler of a thread in a dying module reads is not unmapped when the module
 * unregisters, and is used again by the next one.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "../api/tap.h"
#include <shunt/port.h>

#include "linux/base/registry.h"
#include "linux/module/arrays.h"

int __real_munmap(void *addr, size_t size);
int __wrap_munmap(void *addr, size_t size);
void __real_shunt_mods_retire(struct shunt_mod *mods, size_t max);
void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max);

static const struct shunt_mod *seen, *others; /* the plugin's: of calls, of branches */
static bool is_unmapped, is_control;

int __wrap_munmap(void *addr, size_t size)
{
	is_unmapped |= (uintptr_t)seen - (uintptr_t)addr < size;
	return __real_munmap(addr, size);
}

void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max)
{
	if (is_control)
		shunt_port_free(mods, max * sizeof(*mods));
	else
		__real_shunt_mods_retire(mods, max);
}

static void look_at_mods(const char *path)
{
	seen = others = NULL;
	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module && strstr(m->path, path)) {
			seen = m->calls.mods;
			others = m->branches.mods;
		}
}

static void open_and_close(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);

	look_at_mods(strrchr(path, '/') + 1);
	is_unmapped = false;
	if (handle)
		(void)dlclose(handle);
}

int main(int argc, char **argv)
{
	const struct shunt_mod *first, *second;

	if (argc < 2)
		return 2;
	open_and_close(argv[1]);
	first = seen;
	second = others;
	ok(seen && !is_unmapped, "the mods of a plugin stay mapped");
	open_and_close(argv[1]);
	ok((seen == first || seen == second) && !is_unmapped, "and are used again");
	is_control = true;
	open_and_close(argv[1]);
	ok(seen && is_unmapped, "control: freed, they are unmapped");
	return tap_done();
}
