/* SPDX-License-Identifier: MIT */
/*
 * The program that test_sites_bake.py looks at and bakes: keys and sites of every kind.
 * Prints what it computes; with "live" also each site with the bytes that stand
 * there now, with "update" what it computes after updates; with "wait" it waits for
 * the end of its input.
 */
#include "fixture.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>

static long twice(long x)
{
	return 2 * x;
}

static long thrice(long x)
{
	return 3 * x;
}

static long count;

static void add(long x)
{
	count += x;
}

DEFINE_STATIC_CALL(call, twice);
DEFINE_STATIC_CALL(foreign, strlen);
DEFINE_STATIC_CALL_NULL(null, add);
DEFINE_STATIC_CALL_RET0(ret0, twice);
DEFINE_STATIC_CALL(unused, twice);
DEFINE_STATIC_KEY_TRUE(key_on);
DEFINE_STATIC_KEY_ARRAY_FALSE(keys, 3);

#define NOINLINE __attribute__((noinline))

NOINLINE long tail(long x)
{
	return static_call(call)(x + 1);
}

NOINLINE long ret0_tail(long x)
{
	return static_call(ret0)(x + 1);
}

NOINLINE void null_tail(long x)
{
	static_call_cond(null)(x + 1);
}

/* fixture_jcc.S: a conditional tail call, for x < 0; else 0. */
long conditional(long x);
long conditional_ret0(long x);

NOINLINE long branches(long x)
{
	if (static_branch_likely(&key_on))
		x += 10;
	if (static_branch_unlikely(&keys[0]))
		x += 20;
	if (static_branch_likely(&keys[2]))
		x += 40;
	if (static_branch_unlikely(&lib_key))
		x += 80;
	return x;
}

/* An address that is taken stays the trampoline's. */
long (*volatile pointer)(long) = static_call(call);

NOINLINE long work(long x)
{
	x = static_call(call)(x) + 1;
	x += static_call(ret0)(x) + 1;
	static_call_cond(null)(x);
	x += (long)static_call(foreign)("eleven char") + tail(x) + ret0_tail(x);
	null_tail(x);
	x += conditional(x) + conditional(-x) + conditional_ret0(-x);
	x += static_call(lib_call)(x) + lib_work(x) + branches(x) + pointer(x);
	return x + count;
}

static int show(const struct shunt_site_info *site, void *arg)
{
	const unsigned char *bytes = site->addr;

	(void)arg;
	printf("live %s %s %zu ", site->key, site->function ? site->function : "-", site->offset);
	for (size_t i = 0; i < site->len; i++)
		printf("%02x", bytes[i]);
	printf("\n");
	return 0;
}

static int update(void)
{
	return static_call_update(call, thrice) || static_call_update(null, add) ||
	       static_call_update(ret0, thrice) || static_branch_disable(&key_on);
}

int main(int argc, char **argv)
{
	printf("%ld\n", work(7));
	if (argc > 1 && !strcmp(argv[1], "live") && shunt_for_each_site(NULL, show, NULL))
		return 1;
	if (argc > 1 && !strcmp(argv[1], "update")) {
		if (update())
			return 1;
		printf("%ld\n", work(7));
	}
	if (argc > 1 && !strcmp(argv[1], "wait") && read(STDIN_FILENO, &count, 1) < 0)
		return 1;
	return 0;
}
