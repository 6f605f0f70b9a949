/* SPDX-License-Identifier: MIT */
/* Spin locks. */
#ifndef KERNEL_SPINLOCK_H
#define KERNEL_SPINLOCK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Spinning, with interrupts off. Not in an NMI. The loop keeps answering core syncs
 * (cpu_relax(), core_sync.h), so that a CPU that waits for a lock holds up nobody.
 */
struct spinlock {
	_Atomic uint32_t taken;
};

bool spin_lock(struct spinlock *lock); /* returns what spin_unlock() takes */
void spin_unlock(struct spinlock *lock, bool irqs);

#endif
