/* SPDX-License-Identifier: MIT */
/*
 * Static branches in every form, for forms.c, forms_more.c, forms_cxx*.cc and forms_lib.c:
 * likely and unlikely, of keys that start out true and false, over jumps of 2 and of 5
 * bytes, of single keys and of elements of arrays, of this module's keys and another's.
 *
 * A function's name says what it has: those with "unlikely" in it have unlikely tests
 * alone, and those with "likely" likely ones, so that the bytes of a site can be checked.
 */
#ifndef SHUNT_TESTS_FORMS_H
#define SHUNT_TESTS_FORMS_H

#include <stdbool.h>

#include <shunt/static_key.h>

#define KEPT   __attribute__((noinline, used))
#define PUBLIC __attribute__((visibility("default")))

/*
 * The program's. (A declaration refers to the key, used or not, so a library cannot
 * declare what the program does not export.)
 */
#ifndef FORMS_LIB
DECLARE_STATIC_KEY_FALSE(key_false);
DECLARE_STATIC_KEY_TRUE(key_true);
DECLARE_STATIC_KEY_ARRAY_FALSE(array_false, 4);
DECLARE_STATIC_KEY_ARRAY_TRUE(array_true, 4);
#endif

/* Exported by the program, and by the library. */
DECLARE_STATIC_KEY_FALSE(exe_false);
DECLARE_STATIC_KEY_TRUE(exe_true);
DECLARE_STATIC_KEY_FALSE(lib_false);
DECLARE_STATIC_KEY_TRUE(lib_true);

/* More than a jmp rel8 can pass over. */
#define FILL __asm__ volatile(".rept 180\n\tnop\n\t.endr")

#define SMALL(name, test, key)           \
	KEPT static bool name(void)      \
	{                                \
		if (test(&key))          \
			return true;     \
		__asm__ volatile("nop"); \
		return false;            \
	}
#define BIG(name, test, key)             \
	KEPT static bool name(void)      \
	{                                \
		bool on = false;         \
                                         \
		FILL;                    \
		if (test(&key)) {        \
			FILL;            \
			on = true;       \
		} else {                 \
			FILL;            \
			on = false;      \
		}                        \
		__asm__ volatile("nop"); \
		return on;               \
	}

/* All four functions of a key. @key is an expression, so @name says what it is. */
#define TESTS(name, key)                                          \
	SMALL(small_likely_##name, static_branch_likely, key)     \
	SMALL(small_unlikely_##name, static_branch_unlikely, key) \
	BIG(big_likely_##name, static_branch_likely, key)         \
	BIG(big_unlikely_##name, static_branch_unlikely, key)

#define NR_TESTS(name) \
	small_likely_##name, small_unlikely_##name, big_likely_##name, big_unlikely_##name

/* Inline functions, which every file has for itself. */
#ifndef FORMS_LIB
static inline bool inline_false(void)
{
	return static_branch_unlikely(&key_false);
}

static inline bool inline_true(void)
{
	return static_branch_likely(&key_true);
}
#endif

typedef bool (*test_fn)(void);

#ifdef __cplusplus
extern "C" {
#endif

/* A file's tests of one key, up to NULL. */
struct tests {
	const test_fn *key_false, *key_true, *exe_false, *exe_true, *lib_false, *lib_true;
	const test_fn *array_false[4], *array_true[4];
};

PUBLIC extern const struct tests tests_more, tests_cxx, tests_cxx2, tests_lib;

/* Switches the library's keys and the program's from inside the library. */
PUBLIC int lib_switch(int own, int on);
PUBLIC int lib_count(int own);

#ifdef __cplusplus
}
#endif

#endif
