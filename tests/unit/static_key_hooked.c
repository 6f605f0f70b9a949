/* SPDX-License-Identifier: MIT */
/*
 * core/static_key.c with a hook before each compare-and-swap of a count: see
 * poke_hooked.c. (A macro is not expanded in its own expansion.)
 */
#include "static_key_hooked.h"

void (*key_before_swap)(void);

static void before_swap(void)
{
	if (key_before_swap)
		key_before_swap();
}

#define __atomic_compare_exchange_n(...) (before_swap(), __atomic_compare_exchange_n(__VA_ARGS__))

/* As part of this file, or the macro would not reach it. */
#include "core/static_key.c" /* NOLINT(bugprone-suspicious-include) */
