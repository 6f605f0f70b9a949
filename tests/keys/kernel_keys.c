/* SPDX-License-Identifier: MIT */
/*
 * Static keys as code of the kernel's uses them, with the coverage of its own test
 * (lib/test_static_keys.c) but for the interface that it calls deprecated: keys that start out on
 * and off, of this module and of another, as defined and inverted by a constructor, each tested as
 * likely and as unlikely; all are inverted and inverted back, by pointers to struct static_key. And
 * keys that are static, that depend on a configuration, that are counted.
 *
 * Control: the test of one key says the opposite (-DCONTROL), which the check must see.
 */
#define SHUNT_UNCHECKED /* in the kernel these return nothing */
#include <stdbool.h>

#include "../api/tap.h"
#include "kernel_keys.h"

#define CONFIG_ON 1

DEFINE_STATIC_KEY_TRUE(true_key);
static DEFINE_STATIC_KEY_FALSE(false_key);
static DEFINE_STATIC_KEY_MAYBE(CONFIG_ON, on_key);
DECLARE_STATIC_KEY_MAYBE(CONFIG_OFF, off_key);
DEFINE_STATIC_KEY_MAYBE(CONFIG_OFF, off_key);
static DEFINE_STATIC_KEY_ARRAY_FALSE(keys, 2);

struct test_key {
	const char *name;
	bool init_state;
	struct static_key *key;
	bool (*tests[2])(void);
};

#define TEST(name, branch)                            \
	static bool name##_##branch(void)             \
	{                                             \
		return static_branch_##branch(&name); \
	}
#define BOTH(name) TEST(name, likely) TEST(name, unlikely)
BOTH(true_key)
BOTH(false_key)
BOTH(base_true_key)
BOTH(base_false_key)
BOTH(base_inv_true_key)
#ifdef CONTROL
static bool base_inv_false_key_likely(void)
{
	return !static_branch_likely(&base_inv_false_key);
}
TEST(base_inv_false_key, unlikely)
#else
BOTH(base_inv_false_key)
#endif

static bool on_key_maybe(void)
{
	return static_branch_maybe(CONFIG_ON, &on_key);
}

static bool off_key_maybe(void)
{
	return static_branch_maybe(CONFIG_OFF, &off_key);
}

#define KEY(name, state)                               \
	{                                              \
#name, state, &name.key,               \
		{                                      \
			name##_likely, name##_unlikely \
		}                                      \
	}
static struct test_key test_keys[] = {
	KEY(true_key, true),
	KEY(false_key, false),
	KEY(base_true_key, true),
	KEY(base_false_key, false),
	KEY(base_inv_true_key, false),
	KEY(base_inv_false_key, true),
	{"on_key", true, &on_key.key, {on_key_maybe, on_key_maybe}},
	{"off_key", false, &off_key.key, {off_key_maybe, off_key_maybe}},
};
#define NR_KEYS (sizeof(test_keys) / sizeof(test_keys[0]))

static void invert_key(struct static_key *key)
{
	if (static_key_enabled(key))
		static_key_disable(key);
	else
		static_key_enable(key);
}

static void invert_keys(void)
{
	/* As the kernel's: a key that stands there twice is inverted once. */
	struct static_key *previous = NULL;

	for (size_t i = 0; i < NR_KEYS; i++) {
		if (previous != test_keys[i].key)
			invert_key(test_keys[i].key);
		previous = test_keys[i].key;
	}
}

static bool is_as(const struct test_key *key, bool state)
{
	return static_key_enabled(key->key) == state && key->tests[0]() == state &&
	       key->tests[1]() == state;
}

static void verify_keys(bool inverted, const char *when)
{
	for (size_t i = 0; i < NR_KEYS; i++)
		ok(is_as(&test_keys[i], test_keys[i].init_state != inverted), "%s: %s",
		   test_keys[i].name, when);
}

static void test_counts(void)
{
	struct static_key *key = &false_key.key;

	static_key_slow_inc(key);
	static_key_slow_inc(key);
	ok(static_key_count(key) == 2 && static_key_count(&false_key) == 2, "slow_inc counts");
	ok(static_branch_unlikely(&false_key), "it is on");
	static_key_slow_dec(key);
	ok(static_key_enabled(key) && static_key_enabled(&false_key), "slow_dec: one is left");
	static_key_slow_dec(key);
	ok(!static_key_enabled(key) && !static_branch_unlikely(&false_key),
	   "slow_dec: off with the last");
	static_branch_inc(&false_key);
	static_branch_dec(&false_key);
	ok(static_key_count(key) == 0, "static_branch_inc and _dec");
	static_key_enable(&keys[1].key);
	ok(!static_branch_unlikely(&keys[0]) && static_branch_unlikely(&keys[1]),
	   "an element of an array");
	ok(static_key_slow_dec(key) < 0, "slow_dec below 0 is refused");
}

int main(void)
{
	verify_keys(false, "as it starts out");
	invert_keys();
	verify_keys(true, "inverted");
	invert_keys();
	verify_keys(false, "and back");
	test_counts();
	return tap_done();
}
