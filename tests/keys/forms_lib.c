/* SPDX-License-Identifier: MIT */
/* A shared object with keys of its own, and tests of them and of the program's. */
#define FORMS_LIB
#include "forms.h"

DEFINE_STATIC_KEY_FALSE(lib_false);
EXPORT_STATIC_KEY(lib_false);
DEFINE_STATIC_KEY_TRUE(lib_true);
EXPORT_STATIC_KEY(lib_true);

TESTS(lib_false, lib_false)
TESTS(lib_true, lib_true)
TESTS(lib_exe_false, exe_false)
TESTS(lib_exe_true, exe_true)

static const test_fn own_false[] = {NR_TESTS(lib_false), NULL};
static const test_fn own_true[] = {NR_TESTS(lib_true), NULL};
static const test_fn of_exe_false[] = {NR_TESTS(lib_exe_false), NULL};
static const test_fn of_exe_true[] = {NR_TESTS(lib_exe_true), NULL};

const struct tests tests_lib = {
	.exe_false = of_exe_false,
	.exe_true = of_exe_true,
	.lib_false = own_false,
	.lib_true = own_true,
};

static int both(int a, int b)
{
	return a ? a : b;
}

int lib_switch(int own, int on)
{
	if (own && on)
		return both(static_branch_enable(&lib_false), static_branch_enable(&lib_true));
	if (own)
		return both(static_branch_disable(&lib_false), static_branch_disable(&lib_true));
	if (on)
		return both(static_branch_enable(&exe_false), static_branch_enable(&exe_true));
	return both(static_branch_disable(&exe_false), static_branch_disable(&exe_true));
}

int lib_count(int own)
{
	return own ? static_key_count(&lib_false) : static_key_count(&exe_false);
}
