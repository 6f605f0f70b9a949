/* SPDX-License-Identifier: MIT */
/* The dynamic linker's records for debuggers (struct r_debug), of all its namespaces. */
#include <link.h>

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

void shunt_loader_others(void (*fn)(uintptr_t base, const char *name))
{
	const struct namespace *ns = debug ? next_namespace(debug) : NULL;

	for (; ns; ns = next_namespace(&ns->base))
		for (const struct link_map *map = ns->base.r_map; map; map = map->l_next)
			if (map->l_addr && map->l_name && map->l_name[0])
				fn(map->l_addr, map->l_name);
}

/* Whether an unload has begun in any namespace. */
bool shunt_loader_is_deleting(void)
{
	if (debug->r_state == RT_DELETE)
		return true;
	for (const struct namespace *ns = next_namespace(debug); ns; ns = next_namespace(&ns->base))
		if (ns->base.r_state == RT_DELETE)
			return true;
	return false;
}

bool shunt_loader_is_adding(void)
{
	if (debug->r_state == RT_ADD)
		return true;
	for (const struct namespace *ns = next_namespace(debug); ns; ns = next_namespace(&ns->base))
		if (ns->base.r_state == RT_ADD)
			return true;
	return false;
}

uintptr_t shunt_loader_open(uintptr_t of)
{
	debug = (struct r_debug *)of; /* NOLINT(performance-no-int-to-ptr) */
	return debug ? debug->r_brk : 0;
}
