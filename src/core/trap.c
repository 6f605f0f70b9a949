/* SPDX-License-Identifier: MIT */
/*
 * The trap path: what a thread gets that has run into an int3. After poke_int3_handler()
 * of the Linux kernel. Readers of everything that a poke writes; they write nothing.
 */
#include "arch/arch.h"
#include "core/poke_batch.h"
#include "core/site_table.h"

/*
 * Counts the pokes that ended. Bumped when the last int3 is gone and before the
 * sites' poked marks are: a handler that saw the int3 but no mark any more finds
 * it changed, and looks again.
 */
static _Atomic unsigned long ended;

void shunt_trap_poke_ended(void)
{
	/* One writer at a time, so this need not be a locked instruction. */
	atomic_store_explicit(&ended, atomic_load_explicit(&ended, memory_order_relaxed) + 1,
			      memory_order_release);
}

static uint8_t read_text(uintptr_t addr)
{
	return atomic_load_explicit((_Atomic uint8_t *)addr, memory_order_acquire);
}

/*
 * Whether the int3 at @addr, in front of which a thread has trapped, is gone
 * (late), or is ours, or neither.
 */
static enum shunt_trap classify(uintptr_t addr, struct shunt_site *site)
{
	for (;;) {
		unsigned long seen = atomic_load_explicit(&ended, memory_order_acquire);

		if (read_text(addr) != SHUNT_INT3)
			return SHUNT_TRAP_LATE;
		/* Pairs with set_poked() of poke_int3.c. */
		if (atomic_load_explicit(&site->poked, memory_order_acquire))
			return SHUNT_TRAP_EMULATED;
		/*
		 * An int3 without a mark: another's, unless the poke that it was
		 * read in has ended since. Pairs with shunt_trap_poke_ended().
		 */
		if (atomic_load_explicit(&ended, memory_order_acquire) == seen)
			return SHUNT_TRAP_FOREIGN;
	}
}

enum shunt_trap shunt_trap(struct shunt_regs *regs)
{
	uintptr_t addr = regs->ip - 1;
	struct shunt_insn insn;
	struct shunt_site *site = shunt_site_find(addr, &insn);
	enum shunt_trap trap;

	if (!site)
		return SHUNT_TRAP_FOREIGN;
	trap = classify(addr, site);
	if (trap == SHUNT_TRAP_LATE)
		regs->ip = addr;
	else if (trap == SHUNT_TRAP_EMULATED && !shunt_emulate(regs, addr, &insn))
		return SHUNT_TRAP_FOREIGN;
	return trap;
}
