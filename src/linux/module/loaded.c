/* SPDX-License-Identifier: MIT */
/*
 * The records of modules that have registered, and the static keys whose updates they
 * stand in the way of: a branch has no trampoline, so a key that is tested where it is not
 * known must not change.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/base/vector.h"
#include "linux/module/arrays.h"
#include "linux/module/got_slots.h"
#include "linux/module/jumps.h"
#include "linux/module/loaded.h"
#include "linux/module/tramp.h"

/* The strings that there ever were, each once. */
struct string {
	struct string *next;
	char text[];
};

/*
 * What the inspection interface hands out outlives the module. From our own memory, like
 * the records: a leak checker looks for pointers to malloc()'s in malloc()'s.
 */
const char *shunt_intern(const char *text)
{
	static struct string *strings;
	size_t size = strlen(text) + 1;
	struct string *s = strings;

	while (s && strcmp(s->text, text) != 0)
		s = s->next;
	if (s)
		return s->text;
	s = shunt_port_alloc(sizeof(*s) + size);
	if (!s)
		return NULL;
	memcpy(s->text, text, size);
	s->next = strings;
	strings = s;
	return s->text;
}

static void remove_sites(struct shunt_sites *sites, size_t *room)
{
	struct shunt_vector mods = {sites->mods, sites->nr_mods, SHUNT_VECTOR_MIN};

	if (!sites->mods)
		return;
	while (mods.max < mods.n)
		mods.max *= 2;
	shunt_sites_remove(sites);
	/* The table of a baked module may still have the array of the record's last module. */
	if (*room)
		shunt_sites_free(sites->table.sites, *room);
	shunt_mods_retire(mods.data, mods.max);
	sites->mods = NULL;
	*room = 0;
}

void shunt_loaded_remove_sites(struct shunt_loaded *m)
{
	if (m->baked.nr_sites)
		m->calls.nr_mods = (uint32_t)m->bindings.of_mod.n; /* none of them linked */
	m->baked.nr_sites = 0;
	shunt_file_unmap(&m->baked.file);
	remove_sites(&m->calls, &m->room_for_calls);
	remove_sites(&m->branches, &m->room_for_branches);
	shunt_bindings_free(&m->bindings);
	shunt_port_free(m->refusal.keys, m->refusal.max_keys * sizeof(struct shunt_static_key *));
	m->refusal = (struct shunt_refusal){0};
	m->why = NULL;
	m->module = NULL;
}

static void unbind(struct shunt_sites *sites, uint32_t nr_mods, struct shunt_range range)
{
	for (uint32_t i = 0; sites->mods && i < nr_mods; i++)
		if (shunt_in_range(range, (uintptr_t)sites->mods[i].key, 1))
			sites->mods[i].key = NULL;
}

/* The same of the keys of static branches that are not bound. */
static void forget_unbound(struct shunt_sites *branches, struct shunt_range range)
{
	for (uint32_t i = 0; branches->mods && i < branches->nr_mods; i++)
		if (shunt_in_range(range, branches->mods[i].slot, 1))
			branches->mods[i].slot = 0;
}

void shunt_loaded_forget(struct shunt_range range, const char *path,
			 const struct shunt_loaded *gone)
{
	struct shunt_loaded *m, *other;

	for (m = shunt_loaded_modules; m; m = m->next) {
		if ((!m->module && !m->refusal.module) || m->range.start >= range.end ||
		    range.start >= m->range.end)
			continue;
		if (m != gone && m->range.start == range.start && m->range.end == range.end &&
		    !strcmp(m->path, path))
			continue;
		for (other = shunt_loaded_modules; other; other = other->next) {
			unbind(&other->calls,
			       other->baked.nr_sites ? (uint32_t)other->bindings.of_mod.n
						     : other->calls.nr_mods,
			       m->range);
			unbind(&other->branches, other->branches.nr_mods, m->range);
			forget_unbound(&other->branches, m->range);
		}
		shunt_loaded_remove_sites(m);
	}
}

/* ------------------------------------------------- keys that cannot be updated */

/* Whether @key is in the module, which has another idea of what a key is. */
static bool is_unreadable(const struct shunt_module *module, const struct shunt_static_key *key)
{
	return !shunt_is_of_this_version(module) && (const void *)key >= module->static_keys &&
	       (const void *)key < module->static_keys_end;
}

/* Another libshunt, which may have the key, does not find the module's record here. */
static void flag(struct shunt_static_key *key, unsigned flags)
{
	bool is_others = shunt_static_key_is_known(key) && !shunt_port_is_own_key(key);

	shunt_static_key_set_flags(key, is_others ? SHUNT_KEY_LOST : flags, true);
}

static void flag_keys(const struct shunt_refusal *r, unsigned flags)
{
	const struct static_jump_entry *e = r->jumps.first;

	for (size_t i = 0; i < r->nr_keys; i++)
		flag(r->keys[i], flags);
	for (size_t i = 0; i < r->jumps.n; i++, e++)
		if (shunt_jump_has_key(&r->segments, e) &&
		    !is_unreadable(r->module, shunt_jump_key(e)))
			flag(shunt_jump_key(e), flags);
}

void shunt_loaded_refuse(struct shunt_loaded *m)
{
	flag_keys(&m->refusal, SHUNT_KEY_REFUSED);
}

void shunt_loaded_refuse_unrecorded(const struct shunt_refusal *refusal)
{
	flag_keys(refusal, SHUNT_KEY_LOST);
}

static bool refuses(const struct shunt_refusal *r, const struct shunt_static_key *key)
{
	const struct static_jump_entry *e = r->jumps.first;

	for (size_t i = 0; i < r->nr_keys; i++)
		if (r->keys[i] == key)
			return true;
	for (size_t i = 0; i < r->jumps.n; i++, e++)
		if (shunt_jump_has_key(&r->segments, e) && shunt_jump_key(e) == key)
			return true;
	return false;
}

int shunt_port_baked_sites_lost(const void *key, const char **what)
{
	static char text[4096 + 256]; /* update lock; the stack may be a small one */
	const struct shunt_loaded *m = shunt_loaded_modules;

	while (m && !(m->module && shunt_is_own_key(m->module, key)))
		m = m->next;
	/* Not registered; or there was no memory for its sites, which the next update reads. */
	if (!m || m->baked.nr_sites || !m->why)
		return 0;
	(void)snprintf(text, sizeof(text),
		       "module %s: %s; the key's calls were baked, and cannot be changed",
		       m->stays ? program_invocation_name : m->path, m->why);
	*what = shunt_intern(text);
	if (!*what)
		*what = m->why;
	return -EOPNOTSUPP;
}

/* The module that refused may have gone meanwhile: then the key is free. */
int shunt_port_sites_unknown(struct shunt_static_key *key, const char **what)
{
	for (const struct shunt_loaded *m = shunt_loaded_modules; m; m = m->next)
		if (refuses(&m->refusal, key)) {
			*what = m->refusal.why;
			return m->refusal.error;
		}
	shunt_static_key_set_flags(key, SHUNT_KEY_REFUSED, false);
	if (!(key->unknown & SHUNT_KEY_LOST))
		return 0;
	*what = "a module that tests the key could not be registered, for want of memory or "
		"because it was loaded within an update, or was by another libshunt";
	return -ENOMEM;
}
