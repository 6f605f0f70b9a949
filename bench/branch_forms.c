/* SPDX-License-Identifier: MIT */
/*
 * Code with static branches in it, compiled twice: as the header makes them, and with
 * SHUNT_NOP_BRANCHES, where what is off is a nop. Each has a key of its own.
 *
 * The digest is the demo's: CRC-32C, eight bytes at a time, here with a branch for each eight, as
 * for a counter that is mostly off.
 */
#include "flips.h"

#include <shunt/static_key.h>

#ifdef SHUNT_NOP_BRANCHES
#define KEY    bench_form_nop
#define LOOP   bench_branches_nop
#define DIGEST bench_digest_nop
#define SWITCH bench_switch_nop_form
#else
#define KEY    bench_form_test
#define LOOP   bench_branches_test
#define DIGEST bench_digest_test
#define SWITCH bench_switch_test_form
#endif

DEFINE_STATIC_KEY_FALSE(KEY);
static unsigned long taken;

/* The compiler may not merge two of them: what it knows of memory ends here. */
#define BARRIER() __asm__ volatile("" ::: "memory")
#define EIGHT(x)  x x x x x x x x

__attribute__((noinline, aligned(64))) uint64_t LOOP(uint64_t turns)
{
	for (uint64_t i = 0; i < turns; i++) {
		EIGHT(if (static_branch_unlikely(&KEY)) BARRIER(); BARRIER();)
	}
	return 8 * turns;
}

__attribute__((noinline, aligned(64), target("sse4.2"))) uint64_t DIGEST(const uint64_t *words,
									 size_t n)
{
	uint64_t crc = ~0u;

	for (size_t i = 0; i < n; i++) {
		crc = __builtin_ia32_crc32di(crc, words[i]);
		if (static_branch_unlikely(&KEY))
			taken++;
	}
	return ~crc & ~0u;
}

int SWITCH(bool on)
{
	return on ? static_branch_enable(&KEY) : static_branch_disable(&KEY);
}
