/* SPDX-License-Identifier: MIT */
/*
 * Which keys a module calls that the dynamic linker binds (bind.c). Nobody but the
 * dynamic linker knows which of several definitions it takes, and when: scopes, symbol
 * versions, namespaces, interposition and auditors all have a say. So nothing is looked
 * up by name: what it wrote into the module's own GOT slot is the binding, once that
 * is the trampoline of a key that a registered module defines. Until then the sites stay
 * as the linker left them, and do what the module's call does.
 */
#ifndef SHUNT_LINUX_BIND_H
#define SHUNT_LINUX_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/key.h"
#include "linux/base/registry.h"

/*
 * Give those of @mods a key whose slots hold the trampoline of one by now. With @all
 * false, slots that hold what they held the last time are not looked at again. Returns
 * how many got a key. Update lock held.
 */
uint32_t shunt_bind_mods(struct shunt_bindings *b, struct shunt_mod *mods, bool all);

/*
 * The same for all modules whose sites are known, with their sites. @all: a module has
 * registered, whose keys others may have been waiting for. Update lock held.
 */
void shunt_bind_sites(bool all);

/*
 * Take their keys from those of @mods, @n of a module's branches, whose keys are of no module that
 * has registered here: another libshunt may have them, and has a lock of its own. Returns how many
 * of the keys are registered, then, with another. Update lock held.
 */
size_t shunt_unbind_branches(struct shunt_mod *mods, size_t n);

/* The module goes: what that has kept from being updated no longer is. Update lock held. */
void shunt_forget_unbound(struct shunt_mod *mods, size_t n);

/* Why @site, which has no key, is not bound, with the key's @name. Update lock held. */
const char *shunt_why_branch_unbound(const struct shunt_sites *branches,
				     const struct shunt_site *site, const char **name);

/*
 * Why mod @i has no key, with the key's @name as the symbol has it; NULL: it has one, or
 * had one that is gone. Update lock held.
 */
const char *shunt_why_unbound(const struct shunt_bindings *b, uint32_t i, const char **name);

#endif
