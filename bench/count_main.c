/* SPDX-License-Identifier: MIT */
/*
 * Two loops for test_same_count.py to count the instructions of: one calls its callee
 * directly, the other by a static call that has been pointed at it.
 */
#include <shunt/static_call.h>
#include <stdint.h>
#include <stdio.h>

enum { CALLS = 100000 };

uint64_t loop_direct(uint64_t calls), loop_static(uint64_t calls);

__attribute__((noinline, noclone, noipa)) static uint64_t callee(uint64_t x)
{
	return x + 1;
}

__attribute__((noinline, noclone, noipa)) static uint64_t not_the_callee(uint64_t x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(counted, not_the_callee);

__attribute__((noinline)) uint64_t loop_direct(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = callee(x);
	return x;
}

__attribute__((noinline)) uint64_t loop_static(uint64_t calls)
{
	uint64_t x = 0;

	for (uint64_t i = 0; i < calls; i++)
		x = static_call(counted)(x);
	return x;
}

int main(void)
{
	int err = static_call_update(counted, callee);
	uint64_t direct = loop_direct(CALLS), by_static_call = loop_static(CALLS);

	if (err || direct != CALLS || by_static_call != CALLS) {
		fprintf(stderr, "update: %d, calls: %lu and %lu\n", err, (unsigned long)direct,
			(unsigned long)by_static_call);
		return 1;
	}
	return 0;
}
