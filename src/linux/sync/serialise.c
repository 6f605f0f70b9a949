/* SPDX-License-Identifier: MIT */
/* What both sides of a core sync by signals do: serialise, and wait for a word. */
#include <linux/futex.h>
#include <time.h>

#include "linux/base/syscall.h"
#include "linux/sync/serialise.h"

void shunt_serialise(void)
{
	shunt_serialise_cpu();
}

bool shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns)
{
	struct timespec limit = {0, (long)ns};
	/* Pairs with the release in acknowledge(). */
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

	if ((seen & ~SHUNT_WAITED) == value)
		return true;
	if ((seen & SHUNT_WAITED) ||
	    atomic_compare_exchange_strong_explicit(word, &seen, seen | SHUNT_WAITED,
						    memory_order_relaxed, memory_order_relaxed))
		(void)shunt_syscall(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG,
				    seen | SHUNT_WAITED, (long)&limit);
	return (atomic_load_explicit(word, memory_order_acquire) & ~SHUNT_WAITED) == value;
}
