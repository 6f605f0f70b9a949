/* SPDX-License-Identifier: MIT */
/*
 * libshunt where there is no port: static calls are indirect calls through the key,
 * and static branches read it, so an update is one store, and there is nothing to
 * inspect.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

void __static_call_nop(void)
{
}

long __static_call_return0(void)
{
	return 0;
}

int __static_call_update(struct static_call_key *key, void (*func)(void))
{
	if (!key || (!func && !(key->flags & STATIC_CALL_NULLABLE)))
		return -EINVAL;
	/* Pairs with the acquire load in static_call(). */
	__atomic_store_n(&key->func, func ? func : __static_call_nop, __ATOMIC_RELEASE);
	return 0;
}

void *__static_call_query(const struct static_call_key *key)
{
	void (*func)(void) = key ? __atomic_load_n(&key->func, __ATOMIC_ACQUIRE) : NULL;

	return func == __static_call_nop ? NULL : (void *)func;
}

/* --------------------------------------------------------------- static keys */

/* Serialises what is more than one store. */
static pthread_mutex_t update_lock = PTHREAD_MUTEX_INITIALIZER;

static struct shunt_static_key *key_of(const struct static_key *handle)
{
	return handle->first + (handle - handle->self);
}

/* Pairs with the acquire load in static_branch_likely(). Lock held. */
static int set_count(struct shunt_static_key *key, int count)
{
	__atomic_store_n(&key->count, count, __ATOMIC_RELEASE);
	__atomic_store_n(&key->on, count > 0, __ATOMIC_RELEASE);
	return 0;
}

static int enable(struct shunt_static_key *key)
{
	return key->count ? 0 : set_count(key, 1);
}

static int disable(struct shunt_static_key *key)
{
	return key->count > 1 ? -EBUSY : set_count(key, 0);
}

static int inc(struct shunt_static_key *key)
{
	return key->count == INT_MAX ? -EOVERFLOW : set_count(key, key->count + 1);
}

static int dec(struct shunt_static_key *key)
{
	return key->count ? set_count(key, key->count - 1) : -EINVAL;
}

static int locked(const struct static_key *handle, int (*change)(struct shunt_static_key *key))
{
	int ret;

	(void)pthread_mutex_lock(&update_lock);
	ret = change(key_of(handle));
	(void)pthread_mutex_unlock(&update_lock);
	return ret;
}

int __static_key_enable(const struct static_key *handle)
{
	return locked(handle, enable);
}

int __static_key_disable(const struct static_key *handle)
{
	return locked(handle, disable);
}

int __static_key_inc(const struct static_key *handle)
{
	return locked(handle, inc);
}

int __static_key_dec(const struct static_key *handle)
{
	return locked(handle, dec);
}

int __static_key_count(const struct static_key *handle)
{
	return __atomic_load_n(&key_of(handle)->count, __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------- batches */

/* One change: of a call, or, with handle, of a branch. */
struct shunt_key_change {
	void *key;
	const struct static_key *handle;
	void (*func)(void);
	int on;
};

static int add(struct static_call_batch *batch, const struct shunt_key_change *change)
{
	if (batch->n == batch->max) {
		size_t max = batch->max ? 2 * batch->max : 16;
		void *changes = realloc(batch->changes, max * sizeof(*change));

		if (!changes)
			return -ENOMEM;
		batch->changes = changes;
		batch->max = max;
	}
	batch->changes[batch->n++] = *change;
	return 0;
}

int __static_call_batch_add(struct static_call_batch *batch, struct static_call_key *key,
			    void (*func)(void))
{
	struct shunt_key_change change = {.key = key, .func = func};

	if (!batch || !key || (!func && !(key->flags & STATIC_CALL_NULLABLE)))
		return -EINVAL;
	return add(batch, &change);
}

int __static_key_batch_add(struct static_call_batch *batch, const struct static_key *handle, int on)
{
	struct shunt_key_change change = {.handle = handle, .on = on != 0};

	if (!batch)
		return -EINVAL;
	change.key = key_of(handle);
	return add(batch, &change);
}

/* Whether all of it can be done; lock held. */
static int check(const struct static_call_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++) {
		const struct shunt_key_change *c = &batch->changes[i];

		if (c->handle && !c->on && key_of(c->handle)->count > 1)
			return -EBUSY;
		for (size_t j = 0; j < i; j++)
			if (batch->changes[j].key == c->key)
				return -EINVAL;
	}
	return 0;
}

int static_call_batch_commit(struct static_call_batch *batch)
{
	int ret;

	if (!batch)
		return -EINVAL;
	(void)pthread_mutex_lock(&update_lock);
	ret = check(batch);
	for (size_t i = 0; i < batch->n && !ret; i++) {
		const struct shunt_key_change *c = &batch->changes[i];

		if (c->handle)
			ret = (c->on ? enable : disable)(key_of(c->handle));
		else
			ret = __static_call_update(c->key, c->func);
	}
	(void)pthread_mutex_unlock(&update_lock);
	return ret;
}

void static_call_batch_destroy(struct static_call_batch *batch)
{
	if (!batch)
		return;
	free(batch->changes);
	*batch = (struct static_call_batch){NULL, 0, 0};
}

/* ----------------------------------------------------------------- text_poke */

int text_poke_bp_batch(const struct text_poke *pokes, size_t n)
{
	(void)pokes;
	return n ? -ENOSYS : 0;
}

int(text_poke_bp)(void *addr, const void *insn, size_t len, const void *emulate)
{
	(void)addr;
	(void)insn;
	(void)len;
	(void)emulate;
	return -ENOSYS;
}

void text_poke_forget(const void *addr, size_t len)
{
	(void)addr;
	(void)len;
}

/* ------------------------------------------------------------------- modules */

void shunt_module_register(const struct shunt_module *module)
{
	(void)module;
}

void shunt_module_unregister(const struct shunt_module *module)
{
	(void)module;
}

void shunt_get_stats(struct shunt_stats *stats)
{
	*stats = (struct shunt_stats){0};
}

void shunt_get_ways(struct shunt_ways *ways)
{
	*ways = (struct shunt_ways){"none", "none", "none", "auto", NULL};
}

int shunt_watch_target(const void *func)
{
	(void)func;
	return 0;
}

int shunt_set_poke(enum shunt_poke_policy policy)
{
	return (unsigned)policy <= SHUNT_POKE_ATOMIC ? 0 : -EINVAL;
}

const char *shunt_site_state_name(enum shunt_site_state state)
{
	static const char *const names[] = {"inline",     "tail", "conditional",
					    "trampoline", "far",  "branch"};

	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

int shunt_for_each_key(int (*fn)(const struct shunt_key_info *info, void *arg), void *arg)
{
	(void)fn;
	(void)arg;
	return 0;
}

int shunt_for_each_site(const char *key, int (*fn)(const struct shunt_site_info *info, void *arg),
			void *arg)
{
	(void)key;
	(void)fn;
	(void)arg;
	return 0;
}

const char *shunt_last_error(void)
{
	return "";
}

void shunt_set_log(void (*fn)(const char *message, void *arg), void *arg)
{
	(void)fn;
	(void)arg;
}

int shunt_selftest(void)
{
	return 0; /* nothing traps */
}
