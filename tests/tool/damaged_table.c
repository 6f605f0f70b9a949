/* SPDX-License-Identifier: MIT */
/*
 * A program that is baked, and whose table is damaged then (test_damaged_table.py): its calls reach
 * what they are to reach, or the update says that they do not. Exit status 0: so it is; 2: a
 * call has reached neither; 3: an update that returned 0 has not reached all calls.
 */
#include <stdio.h>
#include <unistd.h>

#include <shunt/static_call.h>

#include "../api/tap.h"

KEEP static int one(int x)
{
	return x + 1;
}

KEEP static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(damaged_a, one);
DEFINE_STATIC_CALL(damaged_b, one);

KEEP static int call(int x)
{
	return static_call(damaged_a)(x) + 0 * x;
}

KEEP static int tail(int x)
{
	return static_call(damaged_a)(x);
}

KEEP static int other(int x)
{
	return static_call(damaged_b)(x) + 0 * x;
}

static int judge(int ret, int a, int b)
{
	int calls[] = {call(10) - 10, tail(10) - 10, other(10) - 10};
	int status = 0;

	for (int i = 0; i < 3; i++) {
		int want = i < 2 ? a : b;

		if (calls[i] != 1 && calls[i] != 2)
			return 2;
		if (!ret && calls[i] != want)
			status = 3;
	}
	return status;
}

int main(void)
{
	int ret, status = judge(0, 1, 1);

	(void)alarm(60);
	ret = static_call_update(damaged_a, two);
	status = status ? status : judge(ret, 2, 1);
	printf("%d", ret);
	ret |= static_call_update(damaged_b, two);
	status = status ? status : judge(ret, 2, 2);
	printf(" %d\n", ret);
	ret |= static_call_update(damaged_a, one);
	return status ? status : judge(ret, 1, 2);
}
