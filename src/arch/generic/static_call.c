/* SPDX-License-Identifier: MIT */
/*
 * libshunt where there is no port: static calls are indirect calls through the
 * key, so an update is one store, and there is nothing to inspect.
 */
#include <errno.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

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
	void (*func)(void) = __atomic_load_n(&key->func, __ATOMIC_ACQUIRE);

	return func == __static_call_nop ? NULL : (void *)func;
}

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
	*ways = (struct shunt_ways){"none", "none", "none"};
}

const char *shunt_site_state_name(enum shunt_site_state state)
{
	static const char *const names[] = {"inline",	  "tail", "conditional",
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
