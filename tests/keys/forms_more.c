/* SPDX-License-Identifier: MIT */
/* A second file of the program, with tests of the same keys. */
#include "forms.h"

TESTS(more_false, key_false)
TESTS(more_true, key_true)
TESTS(more_array, array_false[2])

/* Two in one function, one of them in a loop; and one that returns nothing of it. */
KEPT static bool two(void)
{
	bool on = true;

	for (int i = 0; i < 3; i++)
		on = on && static_branch_unlikely(&key_false);
	return on == inline_false() ? on : !on;
}

/* As a part of a condition, and negated. */
KEPT static bool mixed(void)
{
	if (!static_branch_likely(&key_true) ||
	    (inline_true() && !static_branch_unlikely(&key_true)))
		return false;
	return static_branch_likely(&key_true) ? true : false;
}

static const test_fn more_false[] = {NR_TESTS(more_false), inline_false, two, NULL};
static const test_fn more_true[] = {NR_TESTS(more_true), inline_true, mixed, NULL};
static const test_fn more_array[] = {NR_TESTS(more_array), NULL};

const struct tests tests_more = {
	.key_false = more_false,
	.key_true = more_true,
	.array_false = {NULL, NULL, more_array, NULL},
};
