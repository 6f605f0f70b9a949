/* SPDX-License-Identifier: MIT */
/* A function for the self-test of tracing, compiled for each kind of entry: KIND is its name. */
#define NAME(kind)  NAME_(kind)
#define NAME_(kind) selftest_traced_##kind

#ifdef __clang__
#define KEPT __attribute__((noinline, optnone))
#else
#define KEPT __attribute__((noipa))
#endif

long NAME(KIND)(long x);

KEPT long NAME(KIND)(long x)
{
	return x + 1;
}
