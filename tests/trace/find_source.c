/* SPDX-License-Identifier: MIT */
/* Functions of all kinds, for the finder: find.py compiles it in many ways and knows their names.
 */
#ifndef NO_LIBC
#include <stdlib.h>
#endif

#define KEEP __attribute__((noinline, used))

volatile int sink;

KEEP static int local(int x)
{
	return x + sink;
}

KEEP int global(int x)
{
	return local(x) * 3;
}

/* One byte at -O2, but for the entry. */
KEEP void tiny(void)
{
}

extern int alias(int x) __attribute__((alias("global")));

/* A part of it is cold. */
KEEP int with_cold(int x, int (*fn)(int))
{
	if (__builtin_expect(x == 12345, 0)) {
		sink += fn(x);
		__builtin_trap();
	}
	return fn(x) + 1;
}

/* Ends by a tail call. */
KEEP int tail(int x)
{
	sink++;
	return global(x + 1);
}

KEEP int several_returns(int x)
{
	if (x == 1)
		return sink;
	if (x == 2)
		return local(2) + 1;
	sink = 4;
	return local(x) ? 7 : 8;
}

KEEP long double many(int a, int b, int c, int d, int e, int f, int g, long double h)
{
	return h * (a + b + c + d + e + f + g);
}

/* Identical but for their names: folded by some linkers. */
KEEP int twin_one(int x)
{
	return x * 7 + sink;
}

KEEP int twin_two(int x)
{
	return x * 7 + sink;
}

__attribute__((constructor, used)) static void early(void)
{
	sink++;
}

#ifndef NO_IFUNC
KEEP static int chosen_impl(int x)
{
	return x - sink;
}

KEEP static int (*resolver(void))(int)
{
	return chosen_impl;
}

int chosen(int x) __attribute__((ifunc("resolver")));
#endif

#ifdef __clang__
#define NEVER __attribute__((xray_never_instrument))
#else
#define NEVER
#endif

NEVER __attribute__((no_instrument_function, patchable_function_entry(0))) KEEP int
not_traced(int x)
{
	return x;
}

int main(int argc, char **argv)
{
	(void)argv;
	tiny();
	sink = global(argc) + alias(argc) + with_cold(argc, local) + tail(argc) +
	       several_returns(argc) + (int)many(1, 2, 3, 4, 5, 6, 7, 8.0L) + twin_one(argc) +
	       twin_two(argc) + not_traced(argc);
#ifndef NO_IFUNC
	sink += chosen(3);
#endif
	return 0;
}
