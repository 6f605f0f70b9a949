/* SPDX-License-Identifier: MIT */
/*
 * What the users of keys call: the change of one key, or of a batch of them, with
 * the lock around it and a report behind it.
 */
#include <shunt/static_call.h>

#include "core/error.h"
#include "core/key.h"
#include "core/sort.h"

/* A port that has been written before there was this question. */
__attribute__((weak)) int shunt_port_no_memory(void)
{
	return -SHUNT_ENOMEM;
}

int shunt_report_result(struct shunt_report *r, int ret)
{
	if (ret)
		r->error = ret;
	if (r->error)
		shunt_port_report(r);
	return ret;
}

int shunt_refuse(const char *what, const char *key)
{
	struct shunt_report r = {.what = what, .key = key, .refused = 1};

	return shunt_report_result(&r, -SHUNT_EINVAL);
}

static int check_changes(const struct shunt_key_change *changes, size_t n, struct shunt_report *r)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_kind *kind = changes[i].kind;
		int ret = kind->check_user ? kind->check_user(changes[i].key, r) : 0;

		if (!ret)
			continue;
		r->key = shunt_key_name(kind, changes[i].key);
		return ret;
	}
	return 0;
}

static int watch_targets(const struct shunt_key_change *changes, size_t n, struct shunt_report *r)
{
	for (size_t i = 0; i < n; i++) {
		const struct shunt_kind *kind = changes[i].kind;
		int ret = kind->watch ? kind->watch(changes[i].to) : 0;

		if (!ret)
			continue;
		r->key = shunt_key_name(kind, changes[i].key);
		r->what = "the module of the function cannot be watched";
		return ret;
	}
	return 0;
}

int shunt_change_keys_locked(struct shunt_key_change *changes, size_t n, struct shunt_report *r)
{
	int ret;

	shunt_port_sites_wanted();
	ret = check_changes(changes, n, r);
	return ret ? ret : shunt_update(changes, n, r);
}

int shunt_lock_to_change(const char *key, struct shunt_report *r)
{
	int ret = shunt_port_lock();

	if (!ret)
		return 0;
	r->what = ret == -SHUNT_EDEADLK ? "update within an update of the same thread"
					: "take the update lock";
	r->key = key;
	return ret;
}

int shunt_change_keys(struct shunt_key_change *changes, size_t n)
{
	struct shunt_report r = {0};
	int ret = watch_targets(changes, n, &r);

	if (ret)
		return shunt_report_result(&r, ret);
	ret = shunt_lock_to_change(n ? shunt_key_name(changes[0].kind, changes[0].key) : NULL, &r);
	if (ret)
		return shunt_report_result(&r, ret);
	ret = shunt_change_keys_locked(changes, n, &r);
	shunt_port_unlock();
	return shunt_report_result(&r, ret);
}

/* Twice as much room. */
static int grow(struct static_call_batch *batch)
{
	size_t max = batch->max ? 2 * batch->max : 128;
	struct shunt_key_change *changes = shunt_port_alloc(max * sizeof(*changes));

	if (!changes)
		return shunt_port_no_memory();
	for (size_t i = 0; i < batch->n; i++)
		changes[i] = batch->changes[i];
	if (batch->changes)
		shunt_port_free(batch->changes, batch->max * sizeof(*changes));
	batch->changes = changes;
	batch->max = max;
	return 0;
}

int shunt_batch_add(struct static_call_batch *batch, const struct shunt_kind *kind, void *key,
		    uintptr_t value)
{
	struct shunt_report r = {.what = "allocate a batch", .key = shunt_key_name(kind, key)};

	if (batch->n == batch->max && grow(batch))
		return shunt_report_result(&r, shunt_port_no_memory());
	batch->changes[batch->n++] =
		(struct shunt_key_change){.kind = kind, .key = key, .to = value};
	return 0;
}

static uintptr_t key_address(const void *change)
{
	return (uintptr_t)((const struct shunt_key_change *)change)->key;
}

static int check_twice(struct static_call_batch *batch)
{
	shunt_sort(batch->changes, batch->n, sizeof(batch->changes[0]), key_address);
	for (size_t i = 1; i < batch->n; i++)
		if (batch->changes[i - 1].key == batch->changes[i].key)
			return shunt_refuse(
				"static_call_batch_commit: the key is in it twice",
				shunt_key_name(batch->changes[i].kind, batch->changes[i].key));
	return 0;
}

int static_call_batch_commit(struct static_call_batch *batch)
{
	int ret;

	if (!batch)
		return shunt_refuse("static_call_batch_commit: no batch", NULL);
	ret = check_twice(batch);
	return ret ? ret : shunt_change_keys(batch->changes, batch->n);
}

void static_call_batch_destroy(struct static_call_batch *batch)
{
	if (batch && batch->changes)
		shunt_port_free(batch->changes, batch->max * sizeof(batch->changes[0]));
	if (batch)
		*batch = (struct static_call_batch){NULL, 0, 0};
}
