/* SPDX-License-Identifier: MIT */
/*
 * The return addresses that have a return stub (return_stubs.S). Any thread, signal handlers too;
 * no lock.
 */
#ifndef SHUNT_LINUX_RETURN_SLOTS_H
#define SHUNT_LINUX_RETURN_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"

#define SHUNT_RETURN_STUBS     65536u /* STUBS in return_stubs.S */
#define SHUNT_RETURN_STUB_SIZE (1u << FTRACE_RETURN_STUB_BITS)

extern char shunt_return_stubs[];
extern _Atomic uintptr_t shunt_return_slots[];

/* The stub that goes on to @target, the same for the same; 0: there is no slot left. */
uintptr_t shunt_return_stub(uintptr_t target);

/* Nothing returns to [@start, @end) any more: its module is gone. Its stubs may be used again. */
void shunt_return_stubs_forget(uintptr_t start, uintptr_t end);

static inline bool shunt_is_return_stub(uintptr_t addr)
{
	return addr - (uintptr_t)shunt_return_stubs <
	       (size_t)SHUNT_RETURN_STUBS * SHUNT_RETURN_STUB_SIZE;
}

#endif
