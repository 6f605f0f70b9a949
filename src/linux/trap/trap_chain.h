/* SPDX-License-Identifier: MIT */
/* Who had SIGTRAP before, and the entries of our handler that remember it (trap_chain.c). */
#ifndef SHUNT_LINUX_TRAP_CHAIN_H
#define SHUNT_LINUX_TRAP_CHAIN_H

#include <stdatomic.h>
#include <stddef.h>

#include "linux/base/action.h"

/* trap_entry.S: of entry @i, the code and the action that it passes traps on to. */
#define SHUNT_TRAP_ENTRIES    64
#define SHUNT_TRAP_ENTRY_SIZE 32 /* bytes */
extern const char shunt_trap_entries[SHUNT_TRAP_ENTRIES][SHUNT_TRAP_ENTRY_SIZE];
extern struct shunt_action shunt_trap_records[SHUNT_TRAP_ENTRIES];
extern const char shunt_restore_int3[]; /* restorer.S */

/*
 * Whom to ask next about the trap in @uc, which has come to @entry: each
 * action once, however the handlers call each other. False: the default action.
 * Async-signal-safe.
 */
bool shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);

/* SA_RESETHAND: from now on @action is the default one, where it is asked. */
void shunt_trap_reset(const struct shunt_action *action);

/*
 * The entry that passes on to @action, from now on the one that is asked
 * first. Update lock held.
 */
unsigned shunt_trap_entry_for(const struct shunt_action *action);

/* Which entry @handler is; -1: none of ours. */
int shunt_trap_entry_of(uintptr_t handler);

/*
 * Whether a trap that comes to @handler comes to us: it is ours, or that of another
 * libshunt, which asks us next. *others is set where there is one. Update lock held.
 */
bool shunt_trap_reaches_us(uintptr_t handler, bool *others);

/*
 * We leave: no other libshunt passes traps on to us any more, but to whom we would. Known to it are
 * those that a trap passes and the @n whose first entries are in @others. Returns whether there
 * was one; then once more, when no thread is on its way to us, for what comes with the handlers.
 * Update lock held.
 */
bool shunt_trap_unchain(const uintptr_t *others, size_t n);
void shunt_trap_unchained(void);

#endif
