/* SPDX-License-Identifier: MIT */
/* What the keys of many tests go to: two functions that are told apart by their results. */
#ifndef SHUNT_TESTS_ONE_TWO_H
#define SHUNT_TESTS_ONE_TWO_H

__attribute__((noinline, unused)) static int one(void)
{
	return 1;
}

__attribute__((noinline, unused)) static int two(void)
{
	return 2;
}

#endif
