/* SPDX-License-Identifier: MIT */
/* Which signals are not the program's, and the masks of the program and of the kernel (signals.h).
 */
#include "signals/signals.h"

static _Atomic int chosen; /* the mirror; 0: not yet */
static uint64_t sync_bit;  /* set before */

int shunt_mirror(void)
{
	return atomic_load_explicit(&chosen, memory_order_acquire);
}

uint64_t shunt_sync_bit(void)
{
	return sync_bit;
}

void shunt_mirror_set(int number, int sync)
{
	sync_bit = sync > 0 ? shunt_bit(sync) : 0;
	/* Pairs with the acquire in shunt_mirror(). */
	atomic_store_explicit(&chosen, number, memory_order_release);
}

uint64_t shunt_mask_in(uint64_t program)
{
	uint64_t mirror = shunt_bit(shunt_mirror()), trap = shunt_bit(SIGTRAP);

	return (program & ~(trap | mirror | shunt_sync_bit())) | (program & trap ? mirror : 0);
}

/* The mirror is not the program's to see, as little as the C library's own signals are. */
uint64_t shunt_mask_out(uint64_t kernel)
{
	uint64_t mirror = shunt_bit(shunt_mirror()), trap = shunt_bit(SIGTRAP);

	return (kernel & ~mirror) | (kernel & mirror ? trap : 0);
}
