/* SPDX-License-Identifier: MIT */
/*
 * A program that uses an installed Shunt. It succeeds if calls reach what they should
 * and every site is a direct call: that is, if whoever built it passed the linker flag.
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include <stdio.h>

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(number, one);
DEFINE_STATIC_KEY_FALSE(flag);

static int check_key(const struct shunt_key_info *info, void *arg)
{
	(void)arg;
	printf("%s: %zu sites, %zu inline%s%s\n", info->name, info->sites, info->inline_sites,
	       info->why ? ": " : "", info->why ? info->why : "");
	return info->sites == 0 || (info->type == SHUNT_KEY_CALL && info->inline_sites == 0);
}

int main(void)
{
	if (static_call(number)() != 1 || static_branch_unlikely(&flag))
		return 1;
	if (static_call_update(number, two) || static_branch_enable(&flag))
		return 2;
	if (static_call(number)() != 2 || !static_branch_unlikely(&flag))
		return 3;
	return shunt_for_each_key(check_key, NULL) ? 4 : 0;
}
