/* SPDX-License-Identifier: MIT */
/*
 * The records of the modules that have registered (registry.c). They are kept here, and filled
 * in and emptied by module.c and loaded.c.
 */
#ifndef SHUNT_LINUX_REGISTRY_H
#define SHUNT_LINUX_REGISTRY_H

#include <shunt/module.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/vector.h"

/* What is known of a mod's key, by the mod's index. */
struct shunt_binding {
	uintptr_t seen; /* what the mod's slot held when it was looked at last */
	uint32_t name;  /* of the trampoline's symbol: offset in shunt_bindings.names */
	uint32_t next;  /* find_sites.c: the symbol's next mod: index + 1 */
	bool by_linker; /* the dynamic linker fills the mod's slot with a symbol */
	bool is_open;   /* and has not filled in the trampoline of a known key */
};

/* Those of one module's mods of static calls. Guarded by the update lock. */
struct shunt_bindings {
	struct shunt_vector of_mod; /* struct shunt_binding */
	struct shunt_vector names;  /* char: each name with its NUL */
	uint32_t nr_open;
};

/* The sites in a baked file that have not been read yet; nr_sites 0: none. */
struct shunt_baked_table {
	const void *sites; /* struct shunt_baked_site, in @file */
	uint32_t nr_sites, nr_mods;
	uintptr_t base; /* what their offsets count from */
	struct shunt_file file;
};

/* What a module has mapped, as long as it is: the dynamic linker's own program headers. */
struct shunt_segments {
	const void *headers; /* ElfW(Phdr) */
	size_t n;
	uintptr_t bias;
};

/* The records of a module's static branches; n 0: none are known. */
struct shunt_jumps {
	const struct static_jump_entry *first;
	size_t n;
};

/* The static keys that a module tests at places that are not known, or not to be changed. */
struct shunt_refusal {
	const struct shunt_module *module; /* NULL: not of all that its branches test */
	struct shunt_jumps jumps;          /* all that these test */
	struct shunt_segments segments;    /* of the module; n 0: not known */
	struct shunt_static_key **keys;    /* besides, these */
	size_t nr_keys, max_keys;
	int error;
	const char *why; /* a message, which is never freed */
};

/* A module that has registered. Records are reused, never freed. */
struct shunt_loaded {
	struct shunt_loaded *next;
	const struct shunt_module *_Atomic module; /* its descriptor; NULL: not in use */
	struct shunt_range range;                  /* where it is mapped */
	bool stays;                                /* it is the program, or pinned */
	uintptr_t bias;                            /* load bias, bytes */
	struct shunt_segments segments;
	const char *path; /* its file; such a name is never freed */
	const char *why;  /* why its calls' sites are not known; NULL: they are */
	struct shunt_sites calls, branches;
	struct shunt_bindings bindings;           /* of calls.mods */
	size_t room_for_calls, room_for_branches; /* of their site arrays */
	struct shunt_baked_table baked;
	struct shunt_refusal refusal;
};

/* The list. The update lock is held here and below. */
extern struct shunt_loaded *shunt_loaded_modules;
struct shunt_loaded *shunt_first_loaded(void);

/* The record of @module, be it a refusal alone; NULL: there is none. */
struct shunt_loaded *shunt_loaded_find(const struct shunt_module *module);

/* The record of the module mapped at @range whose keys and branches are those of @module. */
struct shunt_loaded *shunt_loaded_find_same(const struct shunt_module *module,
					    struct shunt_range range);

/* A record that is not in use; NULL: no memory. */
struct shunt_loaded *shunt_loaded_new(void);

#endif
