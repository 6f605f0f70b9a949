/* SPDX-License-Identifier: MIT */
/*
 * Targets that go away. A key may point into any module; when that is unloaded, the key goes back
 * to its default first. A module with keys or sites of its own says so in its destructor
 * (module.c); one that never heard of Shunt is watched (watch.c).
 *
 * What runs when a module goes:
 *
 *	no keys or sites of its own	__cxa_finalize() of it, on_unload() of watch.c, and
 *					shunt_targets_gone() here: each key that points into it is
 *					set to its default by an ordinary update
 *	some				its last destructor, shunt_module_unregister() of module.c:
 *					the same, then under the update lock its sites and
 *					keys are forgotten (loaded.c; arrays.c keeps their memory)
 *
 * Nothing of it happens when the process exits (exit.c).
 */
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/module/target.h"
#include "linux/module/watch_records.h"

/* What was done to a key, for a message once the lock is free. */
struct reset {
	const char *key;
	int error;
};

/* Put @key back if it points into @range; false where it does not. Update lock held. */
static bool reset_key(struct static_call_key *key, struct shunt_range range, struct reset *out)
{
	struct shunt_key_change change = {
		.kind = &shunt_static_call_kind, .key = key, .to = (uintptr_t)key->init};
	struct shunt_report report = {0};

	if (!shunt_in_range(range, (uintptr_t)__atomic_load_n(&key->func, __ATOMIC_RELAXED), 1) ||
	    shunt_in_range(range, change.to, 1))
		return false;
	out->key = key->name;
	out->error = shunt_update(&change, 1, &report);
	return true;
}

/* All keys that point into @range; @out has those that a message is for. Update lock held. */
static size_t reset_keys_into(struct shunt_range range, struct reset *out, size_t max)
{
	size_t n = 0;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct shunt_module *module = m->module;
		struct static_call_key *key, *end;
		struct reset one;

		if (!module)
			continue;
		key = module->call_keys;
		end = module->call_keys_end;
		for (; key != end; key++)
			if (reset_key(key, range, &one) && n < max)
				out[n++] = one;
	}
	return n;
}

void shunt_targets_gone(struct shunt_range range, const char *path)
{
	struct reset resets[16];
	size_t n;

	shunt_watched_gone(range);
	if (shunt_port_lock())
		return;
	n = reset_keys_into(range, resets, sizeof(resets) / sizeof(resets[0]));
	shunt_port_unlock();
	for (size_t i = 0; i < n; i++)
		shunt_message("key %s: the module of its function, %s, goes away; %s%s",
			      resets[i].key, path,
			      resets[i].error ? "it cannot be put back to its default: "
					      : "it is back to its default",
			      resets[i].error ? shunt_error_text(resets[i].error) : "");
}
