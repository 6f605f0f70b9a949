/* SPDX-License-Identifier: MIT */
/* Functions for returns_found.c, compiled with one kind of entries after the other. */
#include <alloca.h>
#include <setjmp.h>

#include "found_functions.h"

volatile long found_sink;

static inline __attribute__((always_inline)) long inner(long n)
{
	found_sink = n;
	return n + 1;
}

static inline __attribute__((always_inline)) long outer(long n)
{
	return inner(n) + inner(n + 1);
}

long found_inlined(long n)
{
	return outer(n) + inner(n);
}

long found_recurse(long n)
{
	long below = n ? found_recurse(n - 1) + 1 : 0;

	found_sink = below;
	return below;
}

long found_last(long n)
{
	found_sink = n;
	return n + 1;
}

long found_tail(long n)
{
	found_sink = n;
	return n % 2 ? found_last(n * 2) : found_recurse(n);
}

/* The stack pointer is another one at its exit. */
long found_alloca(long n)
{
	volatile char *room = alloca((unsigned long)n * 16 + 16);

	for (long i = 0; i < n; i++)
		room[i] = (char)i;
	return room[n - 1] + found_last(n);
}

long double found_precise(long double x)
{
	found_sink++;
	return x * 3;
}

/* Their last call is the handler's: a jump. Frames of many sizes, and one function behind another.
 */
void found_void(long n)
{
	found_sink = n;
}

void found_void_outer(long n)
{
	found_void(n);
	found_sink = n + 1;
}

void found_void_big(long n)
{
	volatile char room[20000];

	room[n] = 1;
	found_void_outer(n);
	found_sink = room[n];
}

void found_void_recurse(long n)
{
	if (n)
		found_void_recurse(n - 1);
	found_sink = n;
}

void found_void_alloca(long n)
{
	volatile char *room = alloca((unsigned long)n * 16 + 16);

	room[n] = 1;
	found_void(n);
	found_sink = room[n];
}

static inline __attribute__((always_inline)) void found_void_inner(long n)
{
	found_sink = n;
}

/* With -finstrument-functions an inlined call has its entry and its return. */
void found_void_inlined(long n)
{
	volatile char room[200];

	room[n] = 1;
	found_void_inner(n);
	found_sink = room[n];
}

jmp_buf found_place;

long found_jump(long n)
{
	if (!n)
		longjmp(found_place, 1);
	found_sink = found_jump(n - 1);
	return found_sink;
}
