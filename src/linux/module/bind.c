/* SPDX-License-Identifier: MIT */
/*
 * From GOT slots to keys (bind.h). A slot is read as often as it takes: with lazy
 * binding it leads back into the module's own PLT until the first call, and a module that
 * is being loaded may be bound to one whose constructors have not run yet.
 *
 * A trampoline has the very bytes of a PLT entry, endbr64; jmp *word(%rip): what makes it
 * one is that the word is in the array of keys of a registered module. A key of a module
 * that has not registered here is updated by nobody, or by another libshunt, which does not
 * know our sites. The same holds of static keys, which a branch's record names itself; but a
 * branch that is left as it was compiled does not follow its key, so updates of that are refused
 * meanwhile, by whichever libshunt has it.
 */
#include <elf.h>
#include <string.h>

#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "linux/base/registry.h"
#include "linux/elf/elf.h"
#include "linux/module/bind.h"
#include "linux/module/image.h"
#include "linux/module/tramp.h"

static struct shunt_binding *binding(const struct shunt_bindings *b, uint32_t i)
{
	return (struct shunt_binding *)b->of_mod.data + i;
}

/* The registered module that has @len bytes of text at @addr, or NULL. */
static const struct shunt_loaded *module_of_text(uintptr_t addr, size_t len)
{
	const struct shunt_loaded *m = shunt_first_loaded();

	for (; m; m = m->next)
		if (m->module && shunt_segment_has(&m->segments, PF_X, addr, len))
			return m;
	return NULL;
}

static struct static_call_key *registered_key(const struct static_call_key *key)
{
	for (const struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module && shunt_is_own_key(m->module, key))
			return (struct static_call_key *)key;
	return NULL;
}

/*
 * The key of a PLT entry that stands for a symbol in other modules, too (in an executable
 * that is not position-independent): that of the module's own calls through it.
 */
static struct static_call_key *key_of_plt(const struct shunt_loaded *m, uintptr_t plt)
{
	for (uint32_t i = 0; i < m->calls.nr_mods; i++)
		if (m->calls.mods[i].tramp == plt)
			return m->calls.mods[i].key;
	return NULL;
}

/* The key that a call of @func follows, whatever it passes on its way; NULL: none is proved. */
static struct static_call_key *key_of(uintptr_t func)
{
	const struct shunt_loaded *m = module_of_text(func, SHUNT_TRAMP_SIZE);
	struct static_call_key *key;

	if (!m)
		return NULL;
	key = shunt_tramp_key(func);
	if (key)
		key = registered_key(key);
	return key ? key : key_of_plt(m, func);
}

uint32_t shunt_bind_mods(struct shunt_bindings *b, struct shunt_mod *mods, bool all)
{
	uint32_t n = 0;

	for (uint32_t i = 0; b->nr_open && i < b->of_mod.n; i++) {
		struct shunt_binding *binding_i = binding(b, i);
		uintptr_t func;

		if (!binding_i->is_open)
			continue;
		/* The dynamic linker may be writing it, on another thread. */
		func = __atomic_load_n((const uintptr_t *)mods[i].slot, __ATOMIC_ACQUIRE);
		if (!all && func == binding_i->seen)
			continue;
		binding_i->seen = func;
		mods[i].key = key_of(func);
		if (!mods[i].key)
			continue;
		binding_i->is_open = false;
		b->nr_open--;
		n++;
	}
	return n;
}

/* ------------------------------------------------------------- static branches */

size_t shunt_unbind_branches(struct shunt_mod *mods, size_t n)
{
	size_t others = 0;

	for (size_t i = 0; i < n; i++) {
		struct shunt_static_key *key = mods[i].key;

		if (shunt_port_is_own_key(key))
			continue;
		others += shunt_static_key_is_known(key);
		shunt_static_key_tested_elsewhere(key, true);
		mods[i].slot = (uintptr_t)key;
		mods[i].key = NULL;
	}
	return others;
}

/* Those whose key is of a module that has registered here since. */
static bool bind_branches(struct shunt_sites *branches)
{
	bool any = false;

	for (uint32_t i = 0; branches->mods && i < branches->nr_mods; i++) {
		struct shunt_mod *mod = &branches->mods[i];
		struct shunt_static_key *key = (struct shunt_static_key *)mod->slot;

		if (!key || !shunt_port_is_own_key(key))
			continue;
		mod->key = key;
		mod->slot = 0;
		shunt_static_key_tested_elsewhere(key, false);
		any = true;
	}
	return any;
}

static void bind_all_branches(void)
{
	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		struct shunt_report report = {0};

		/* What failed is what its sites say, and their key's flag that they are stale. */
		if (m->module && bind_branches(&m->branches))
			(void)shunt_sites_bind(&m->branches, &report);
	}
}

void shunt_forget_unbound(struct shunt_mod *mods, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (mods[i].slot)
			shunt_static_key_tested_elsewhere((struct shunt_static_key *)mods[i].slot,
							  false);
		mods[i].slot = 0;
	}
}

const char *shunt_why_branch_unbound(const struct shunt_sites *branches,
				     const struct shunt_site *site, const char **name)
{
	const struct static_jump_entry *entries = branches->module;
	const struct shunt_static_key *key = shunt_jump_key(&entries[site->owner]);

	*name = key->name;
	return shunt_static_key_is_known(key)
		       ? "stays as it was compiled: " SHUNT_OF_ANOTHER
		       : "stays as it was compiled: the key's module has not registered";
}

/* ---------------------------------------------------------------- all modules */

/* Once over all modules. Whether a mod has got a key. */
static bool bind_round(bool all)
{
	bool any = false;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		struct shunt_report report = {0};

		if (!m->module || !m->calls.nr_mods)
			continue;
		if (!shunt_bind_mods(&m->bindings, m->calls.mods, all))
			continue;
		/* What failed is what its sites say. */
		(void)shunt_sites_bind(&m->calls, &report);
		any = true;
	}
	return any;
}

void shunt_bind_sites(bool all)
{
	/* A binding to another module's PLT entry waits for that module's own. */
	if (all)
		bind_all_branches();
	while (bind_round(all))
		all = true;
}

const char *shunt_why_unbound(const struct shunt_bindings *b, uint32_t i, const char **name)
{
	const struct shunt_binding *of_mod = b->of_mod.data;
	const struct shunt_loaded *m;

	if (i >= b->of_mod.n || !of_mod[i].is_open)
		return NULL;
	*name = (const char *)b->names.data + of_mod[i].name + strlen(SHUNT_TRAMP_PREFIX);
	m = module_of_text(of_mod[i].seen, 1);
	if (m && &m->bindings == b)
		return "not bound yet: lazy binding";
	return "bound to what is not the trampoline of a key that is known here";
}
