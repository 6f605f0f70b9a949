/* SPDX-License-Identifier: MIT */
/*
 * SIGTRAP, between its parts: trap_entry.S is entered by the kernel, trap.c finds out whose
 * trap it is, trap_chain.c knows who had SIGTRAP before.
 */
#ifndef SHUNT_LINUX_TRAP_H
#define SHUNT_LINUX_TRAP_H

#include <stdatomic.h>

#include "linux/base/action.h"

/* trap_entry.S: of entry @i, the code and the action that it passes traps on to. */
#define SHUNT_TRAP_ENTRIES    64
#define SHUNT_TRAP_ENTRY_SIZE 32 /* bytes */
extern const char shunt_trap_entries[SHUNT_TRAP_ENTRIES][SHUNT_TRAP_ENTRY_SIZE];
extern struct shunt_action shunt_trap_records[SHUNT_TRAP_ENTRIES];
extern const char shunt_restore_int3[]; /* restorer.S */

/* trap.c, called by the entries: the handler to go on with; NULL: the thread goes on. */
uintptr_t shunt_on_sigtrap(int sig, siginfo_t *info, void *context, unsigned entry);

/*
 * trap_chain.c: whom to ask next about the trap in @uc, which has come to @entry: each
 * action once, however the handlers call each other. False: the default action.
 * Async-signal-safe.
 */
bool shunt_trap_next(ucontext_t *uc, unsigned entry, struct shunt_action *next);

/* trap_chain.c: SA_RESETHAND: from now on @action is the default one, where it is asked. */
void shunt_trap_reset(const struct shunt_action *action);

/*
 * trap_chain.c: the entry that passes on to @action, from now on the one that is asked
 * first. Update lock held.
 */
unsigned shunt_trap_entry_for(const struct shunt_action *action);

/* trap_chain.c: which entry @handler is; -1: none of ours. */
int shunt_trap_entry_of(uintptr_t handler);

/*
 * trap_chain.c: whether a trap that comes to @handler comes to us: it is ours, or that of another
 * libshunt, which asks us next. *others is set where there is one. Update lock held.
 */
bool shunt_trap_reaches_us(uintptr_t handler, bool *others);

/* trap.c: another libshunt's handler has been seen; told when the lock is free. */
extern _Atomic bool shunt_saw_others;

/* copies.c: say that there is another libshunt, once. Update lock not held. */
void shunt_tell_of_others(void);

#endif
