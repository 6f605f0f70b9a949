/* SPDX-License-Identifier: MIT */
/* A search for the sites of a module, which several files do together. */
#ifndef SHUNT_LINUX_SITE_SEARCH_H
#define SHUNT_LINUX_SITE_SEARCH_H

#include <shunt/module.h>

#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"
#include "linux/module/image.h"

/* It, and what it has found. */
struct shunt_site_search {
	const struct shunt_image *image;
	const struct shunt_elf *elf;
	const struct shunt_module *module;
	uint32_t *mod_of_sym;           /* by symbol index: its first mod: index + 1; 0: none */
	struct shunt_vector mods;       /* struct shunt_mod */
	struct shunt_vector sites;      /* struct shunt_site */
	struct shunt_bindings bindings; /* of the mods of static calls */
	struct shunt_vector slots;      /* got_slots.c: of symbols of trampolines, in @elf */
	bool has_slots;                 /* they have been looked for */
	uintptr_t base;                 /* what the sites' offsets count from */
	struct shunt_jumps jumps;       /* of branches: shunt_jumps_find() */
	size_t astray;                  /* of these, how many do not lead to text */
	size_t keyless;                 /* and how many test what is no key */
};

#endif
