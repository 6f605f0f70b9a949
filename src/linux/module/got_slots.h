/* SPDX-License-Identifier: MIT */
/* The GOT slots that a module calls through, and the keys that they are of (got_slots.c). */
#ifndef SHUNT_LINUX_GOT_SLOTS_H
#define SHUNT_LINUX_GOT_SLOTS_H

#include <shunt/module.h>

#include "core/key.h"
#include "linux/base/registry.h"
#include "linux/module/site_search.h"

/* The slot that the PLT entry at @plt, in a module of @segments, jumps through; 0: it is none. */
uintptr_t shunt_plt_slot(const struct shunt_segments *segments, uintptr_t plt);

/* Where a call of @addr goes, in a module of @segments: there, or behind the linker's stubs. */
uintptr_t shunt_behind_stubs(const struct shunt_segments *segments, uintptr_t addr);

/*
 * Whether the dynamic linker fills the slot at @slot with the symbol @name, a version
 * aside. 1, 0 or -ENOMEM.
 */
int shunt_is_slot_of(struct shunt_site_search *s, uintptr_t slot, const char *name);

/* Whether a word of the module is at @slot, and is @value. */
bool shunt_slot_holds(const struct shunt_site_search *s, uintptr_t slot, uintptr_t value);

void shunt_slots_free(struct shunt_site_search *s);

/* A new mod of a static call; of the symbol @name, where the dynamic linker binds it. */
int shunt_add_mod(struct shunt_site_search *s, const struct shunt_mod *mod, const char *name);

void shunt_bindings_free(struct shunt_bindings *b);

#endif
