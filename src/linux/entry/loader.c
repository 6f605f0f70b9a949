/* SPDX-License-Identifier: MIT */
/* The dynamic linker's records for debuggers (struct r_debug), of all its namespaces. */
#include <link.h>
#include <stdatomic.h>

#include "linux/base/dl_list.h"
#include "linux/entry/modules.h"

static struct r_debug *debug;

/* The dynamic linker's records of another namespace, from glibc 2.35 on. */
struct namespace
{
	struct r_debug base;
	struct namespace *next;
};

static const struct namespace *next_namespace(const struct r_debug *of)
{
	return of->r_version >= 2 ? ((const struct namespace *)of)->next : NULL;
}

/*
 * Where this copy of the library is in another namespace than the program, the program's, which is
 * the first, is one of those too. In a copy of the process that one is what shunt_dl_iterate()
 * walks, from wherever.
 */
void shunt_loader_others(void (*fn)(uintptr_t base, const char *name))
{
	const struct r_debug *of = debug;

	if (of && shunt_dl_is_copied())
		of = (const void *)next_namespace(of);
	for (; of; of = (const void *)next_namespace(of))
		for (const struct link_map *map = of->r_map; map; map = map->l_next)
			if (map->l_name && (map->l_addr || !map->l_name[0]))
				fn(map->l_addr, map->l_name);
}

/*
 * Of a copy of the process: namespaces in which a thread that is not in it was loading or
 * unloading. Their state says so until the copy loads or unloads there itself, and has done.
 */
enum { LEFT = 8 };
static const struct r_debug *_Atomic left[LEFT];

/*
 * An unload of which we have been told has the lock of sets, or waits for it. One of which we have
 * not, because it had begun before that, unmaps without.
 */
static _Atomic bool is_unload_told;

void shunt_loader_unload_told(bool is)
{
	atomic_store(&is_unload_told, is);
}

bool shunt_loader_is_unload_told(void)
{
	return atomic_load(&is_unload_told);
}

void shunt_loader_copied(void)
{
	size_t n = 0;

	atomic_store(&is_unload_told, false);
	/* They may not have been looked for yet. */
	if (!debug)
		debug = shunt_dl_debug();
	for (const struct r_debug *of = debug; of; of = (const void *)next_namespace(of))
		if (of->r_state != RT_CONSISTENT && n < LEFT)
			left[n++] = of;
	while (n < LEFT)
		left[n++] = NULL;
}

static bool is_in_state(const struct r_debug *of, unsigned state)
{
	bool is = of->r_state == state;

	for (size_t i = 0; i < LEFT; i++) {
		if (left[i] != of)
			continue;
		if (of->r_state == RT_CONSISTENT)
			left[i] = NULL;
		is = false;
	}
	return is;
}

static bool is_any_in_state(unsigned state)
{
	for (const struct r_debug *of = debug; of; of = (const void *)next_namespace(of))
		if (is_in_state(of, state))
			return true;
	return false;
}

bool shunt_loader_is_deleting(void)
{
	return is_any_in_state(RT_DELETE);
}

bool shunt_loader_is_adding(void)
{
	return is_any_in_state(RT_ADD);
}

uintptr_t shunt_loader_open(uintptr_t of)
{
	debug = (struct r_debug *)of; /* NOLINT(performance-no-int-to-ptr) */
	return debug ? debug->r_brk : 0;
}
