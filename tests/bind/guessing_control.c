/* SPDX-License-Identifier: MIT */
/*
 * For the negative controls: the binding guessed where a module registers, in place of
 * shunt_bind_mods() (-Wl,--wrap). BIND_GUESS says how: "dlsym": by name in libshunt's scope;
 * "name": the key of that name that registered first; "once": slots are not looked at again.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/port.h>

#include "linux/base/registry.h"
#include "linux/module/bind.h"
#include "linux/module/tramp.h"

void __real_shunt_bind_sites(bool all);
void __wrap_shunt_bind_sites(bool all);
uint32_t __real_shunt_bind_mods(struct shunt_bindings *b, struct shunt_mod *mods, bool all);
uint32_t __wrap_shunt_bind_mods(struct shunt_bindings *b, struct shunt_mod *mods, bool all);

static struct static_call_key *by_dlsym(const char *symbol)
{
	uintptr_t tramp = (uintptr_t)dlsym(RTLD_DEFAULT, symbol);

	return tramp ? shunt_tramp_key(tramp) : NULL;
}

static struct static_call_key *by_name(const char *symbol)
{
	struct static_call_key *found = NULL;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		struct static_call_key *key = m->module ? m->module->call_keys : NULL;

		for (; key && key != m->module->call_keys_end; key++)
			if (!strcmp(key->name, symbol + strlen("__SCT__")))
				found = key;
	}
	return found;
}

void __wrap_shunt_bind_sites(bool all)
{
	const char *how = getenv("BIND_GUESS");

	if (!how || strcmp(how, "once") != 0)
		__real_shunt_bind_sites(all);
}

uint32_t __wrap_shunt_bind_mods(struct shunt_bindings *b, struct shunt_mod *mods, bool all)
{
	struct shunt_binding *bindings = b->of_mod.data;
	const char *how = getenv("BIND_GUESS");
	uint32_t n = 0;

	if (!how || !strcmp(how, "once"))
		return __real_shunt_bind_mods(b, mods, all);
	for (uint32_t i = 0; i < b->of_mod.n; i++) {
		const char *symbol = (const char *)b->names.data + bindings[i].name;

		if (!bindings[i].is_open)
			continue;
		mods[i].key = strcmp(how, "dlsym") ? by_name(symbol) : by_dlsym(symbol);
		bindings[i].is_open = !mods[i].key;
		b->nr_open -= !bindings[i].is_open;
		n += !bindings[i].is_open;
	}
	return n;
}
