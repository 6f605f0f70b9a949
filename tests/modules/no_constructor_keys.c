/* SPDX-License-Identifier: MIT */
/*
 * A file without the constructor that registers its module: for no_constructor.c, as a part of it,
 * and of plugins, compiled with -ffreestanding or (BY_MACRO) by what a program may define.
 */
#ifdef BY_MACRO
#define SHUNT_NO_MODULE
#endif
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "no_constructor.h"

#ifdef __SHUNT_REGISTERS
#error "it has a constructor"
#endif

DEFINE_STATIC_KEY_FALSE(bare_key);
DEFINE_STATIC_KEY_TRUE(bare_true);
DEFINE_STATIC_KEY_ARRAY_FALSE(bare_keys_of_array, 2);

static int bare_one(void)
{
	return 1;
}

static int bare_two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(bare_call, bare_one);

static __attribute__((noinline)) int test(void)
{
	return static_branch_unlikely(&bare_key) || static_branch_unlikely(&bare_keys_of_array[1]);
}

static __attribute__((noinline)) int test_true(void)
{
	return static_branch_likely(&bare_true);
}

static int enable(void)
{
	int ret = static_branch_enable(&bare_key);

	return ret ? ret : static_branch_enable(&bare_keys_of_array[1]);
}

static int disable(void)
{
	int ret = static_branch_disable(&bare_keys_of_array[1]);

	return ret ? ret : static_branch_disable(&bare_key);
}

static int inc(void)
{
	return static_branch_inc(&bare_key);
}

static int dec(void)
{
	return static_branch_dec(&bare_key);
}

static int count(void)
{
	return static_key_count(&bare_key);
}

static int disable_true(void)
{
	return static_branch_disable(&bare_true);
}

static int dec_true(void)
{
	int ret = static_branch_inc(&bare_true);

	return ret ? ret : static_branch_dec(&bare_true);
}

static int batch(void)
{
	struct static_call_batch changes = STATIC_CALL_BATCH_INIT;
	int ret = static_branch_batch_enable(&changes, &bare_key);

	if (!ret)
		ret = static_branch_batch_disable(&changes, &bare_true);
	return ret ? ret : static_call_batch_commit(&changes);
}

static __attribute__((noinline)) int call(void)
{
	return static_call(bare_call)() + 0;
}

static int update(void)
{
	return static_call_update(bare_call, bare_two);
}

static void forget(void)
{
	bare_key.key.first->pending = bare_keys_of_array[0].key.first[1].pending = 0;
}

__attribute__((visibility("default"))) extern const struct bare_keys bare;
const struct bare_keys bare = {
	test,         test_true, enable, disable, inc,    dec,    count,
	disable_true, dec_true,  batch,  call,    update, forget,
};
