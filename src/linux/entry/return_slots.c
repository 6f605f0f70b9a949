/* SPDX-License-Identifier: MIT */
/*
 * The slots of the return stubs: a hash table of return addresses. A slot is claimed once, by a
 * compare and swap, and is not given up while the module that its address is in is there:
 * so a stub on a stack leads to the same place for as long as it can be returned to.
 *
 * Two threads that look for the same address at the same time may claim two slots for it
 * behind the end of a module, when slots come free again. Both are good.
 */
#include "linux/entry/return_slots.h"

/* Was that of an address in a module that is gone. Nothing returns to it. */
#define FREED 1u

/* How many places behind its first one an address can stand. */
#define PLACES 128u

static _Atomic uintptr_t *place(uintptr_t target, unsigned i)
{
	/* The same hash as in raw_stubs.S: by the golden ratio, the 16 high bits. */
	unsigned first = (unsigned)(target * 0x9e3779b97f4a7c15 >> 48);

	return &shunt_return_slots[(first + i) % SHUNT_RETURN_STUBS];
}

static uintptr_t stub_of(const _Atomic uintptr_t *slot)
{
	return (uintptr_t)shunt_return_stubs +
	       (uintptr_t)(slot - shunt_return_slots) * SHUNT_RETURN_STUB_SIZE;
}

/* Relaxed: a slot says nothing about other memory. */
static bool claim(_Atomic uintptr_t *slot, uintptr_t from, uintptr_t target)
{
	return atomic_compare_exchange_strong_explicit(slot, &from, target, memory_order_relaxed,
						       memory_order_relaxed) ||
	       from == target;
}

static _Atomic bool is_used; /* any of them, ever */

uintptr_t shunt_return_stub(uintptr_t target)
{
	_Atomic uintptr_t *freed = NULL;

	for (unsigned i = 0; i < PLACES; i++) {
		_Atomic uintptr_t *slot = place(target, i);
		uintptr_t found = atomic_load_explicit(slot, memory_order_relaxed);

		if (found == target)
			return stub_of(slot);
		if (found == FREED && !freed)
			freed = slot;
		if (found)
			continue;
		atomic_store_explicit(&is_used, true, memory_order_relaxed);
		if (freed && claim(freed, FREED, target))
			return stub_of(freed);
		if (claim(slot, 0, target))
			return stub_of(slot);
	}
	return freed && claim(freed, FREED, target) ? stub_of(freed) : 0;
}

void shunt_return_stubs_forget(uintptr_t start, uintptr_t end)
{
	if (!atomic_load_explicit(&is_used, memory_order_relaxed))
		return;
	for (unsigned i = 0; i < SHUNT_RETURN_STUBS; i++) {
		uintptr_t target =
			atomic_load_explicit(&shunt_return_slots[i], memory_order_relaxed);

		if (target >= start && target < end)
			atomic_store_explicit(&shunt_return_slots[i], FREED, memory_order_relaxed);
	}
}
