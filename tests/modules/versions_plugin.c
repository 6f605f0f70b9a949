/* SPDX-License-Identifier: MIT */
/*
 * A plugin that was compiled with an earlier shunt/module.h, as far as its descriptor goes: it
 * names the first of its records of static branches, of three words each, and their end. It tests a
 * key of the program's, and one of its own. Built once more as the control: without that end, it
 * cannot be told from one of this version.
 */
#define SHUNT_NO_MODULE
#include <shunt/static_key.h>

#define PUBLIC __attribute__((visibility("default")))

DEFINE_STATIC_KEY_FALSE(old_own);
DECLARE_STATIC_KEY_FALSE(versions_host);

PUBLIC int old_test(void);
PUBLIC int old_turn(int on);

extern const char __start_static_jumps[] __attribute__((visibility("hidden")));
extern const char __stop_static_jumps[] __attribute__((visibility("hidden")));
extern char __start_static_keys[] __attribute__((visibility("hidden")));
extern char __stop_static_keys[] __attribute__((visibility("hidden")));

#ifdef __aarch64__
#define NOP "nop"
#else
#define NOP ".byte 0x0f, 0x1f, 0x44, 0, 0"
#endif
#define TEST(key)                                           \
	__asm__ goto("1:	" NOP "\n"                  \
		     ".pushsection static_jumps, \"a\"\n"   \
		     ".balign 4\n"                          \
		     "	.long 1b - ., %l[on] - ., %c0 - .\n" \
		     ".popsection\n"                        \
		     :                                      \
		     : __SHUNT_SYMBOL(&(key))               \
		     :                                      \
		     : on);                                 \
	return 0;                                           \
on:                                                         \
	return 1

static __attribute__((noinline)) int test_host(void)
{
	TEST(versions_host);
}

static __attribute__((noinline)) int test_own(void)
{
	TEST(old_own);
}

int old_test(void)
{
	return test_host() + 2 * test_own();
}

int old_turn(int on)
{
	return on ? static_branch_enable(&old_own) : static_branch_disable(&old_own);
}

static const struct shunt_module module = {
	.size = sizeof(struct shunt_module),
	.static_keys = __start_static_keys,
	.static_keys_end = __stop_static_keys,
	.jumps = __start_static_jumps,
#ifndef CONTROL
	.reserved = __stop_static_jumps,
#endif
};

__attribute__((constructor)) static void enter(void)
{
	shunt_module_register(&module);
}

__attribute__((destructor)) static void leave(void)
{
	shunt_module_unregister(&module);
}
