/* SPDX-License-Identifier: MIT */
/* Trampolines of static calls, by their code (tramp.c). */
#ifndef SHUNT_LINUX_TRAMP_H
#define SHUNT_LINUX_TRAMP_H

#include <shunt/module.h>
#include <shunt/static_call.h>

#include "linux/elf/elf.h"
#include "linux/module/site_search.h"

/*
 * What the SHUNT_TRAMP_SIZE bytes at @tramp jump through, if they are those of a
 * trampoline, or NULL. A PLT entry may have them, too.
 */
struct static_call_key *shunt_tramp_key(uintptr_t tramp);

/* Whether @key is one of the module's own. */
bool shunt_is_own_key(const struct shunt_module *module, const struct static_call_key *key);

/* The key of the module's own trampoline at @tramp, or NULL. */
struct static_call_key *shunt_own_tramp_key(const struct shunt_site_search *s, uintptr_t tramp);

#endif
