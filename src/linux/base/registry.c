/* SPDX-License-Identifier: MIT */
/* The records of modules that have registered. */
#include <shunt/module.h>
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/registry.h"

/* All records; grows at the head. Guarded by the update lock. */
struct shunt_loaded *shunt_loaded_modules;

struct shunt_loaded *shunt_first_loaded(void)
{
	return shunt_loaded_modules;
}

struct shunt_loaded *shunt_loaded_find(const struct shunt_module *module)
{
	struct shunt_loaded *m = shunt_loaded_modules;

	while (m && m->module != module && m->refusal.module != module)
		m = m->next;
	return m;
}

/*
 * Objects that were linked with "ld -r", and had their symbols made local, bring a descriptor
 * each into one module. The bounds of its sections are the same in all of them.
 */
static bool is_same(const struct shunt_module *a, const struct shunt_module *b)
{
	return a->call_keys == b->call_keys && a->static_keys == b->static_keys;
}

struct shunt_loaded *shunt_loaded_find_same(const struct shunt_module *module,
					    struct shunt_range range)
{
	struct shunt_loaded *m = shunt_loaded_modules;

	while (m && !(m->module && m->range.start == range.start && m->range.end == range.end &&
		      is_same(m->module, module)))
		m = m->next;
	return m;
}

static bool has_key(const struct shunt_loaded *m, const void *key)
{
	const struct shunt_module *module = m->module;

	return module && ((key >= (const void *)module->call_keys &&
			   key < (const void *)module->call_keys_end) ||
			  (key >= (const void *)module->static_keys &&
			   key < (const void *)module->static_keys_end));
}

int shunt_port_is_own_key(const void *key)
{
	/* Keys that are updated together, or that one module tests, are mostly neighbours. */
	static const struct shunt_loaded *last;
	const struct shunt_loaded *m = shunt_loaded_modules;

	if (last && has_key(last, key))
		return 1;
	while (m && !has_key(m, key))
		m = m->next;
	if (m)
		last = m;
	return m != NULL;
}

struct shunt_loaded *shunt_loaded_new(void)
{
	/* For modules that come when there is no memory. */
	static struct shunt_loaded spare[4];
	static size_t used;
	struct shunt_loaded *m = shunt_loaded_modules;

	while (m && (m->module || m->refusal.module))
		m = m->next;
	if (m)
		return m;
	m = shunt_port_alloc(sizeof(*m));
	if (!m && used < sizeof(spare) / sizeof(spare[0]))
		m = &spare[used++];
	if (m) {
		m->next = shunt_loaded_modules;
		shunt_loaded_modules = m;
	}
	return m;
}
