/* SPDX-License-Identifier: MIT */
/* Spin locks (spinlock.h). */
#include "spinlock.h"

#include <stdatomic.h>

#include "core_sync.h"
#include "x86.h"

bool spin_lock(struct spinlock *lock)
{
	bool irqs = irq_save();
	uint32_t free = 0;

	/* Pairs with the release in spin_unlock(). */
	while (!atomic_compare_exchange_strong_explicit(
		&lock->taken, &free, 1, memory_order_acquire, memory_order_relaxed)) {
		free = 0;
		cpu_relax();
	}
	return irqs;
}

void spin_unlock(struct spinlock *lock, bool irqs)
{
	atomic_store_explicit(&lock->taken, 0, memory_order_release);
	irq_restore(irqs);
}
