/* SPDX-License-Identifier: MIT */
/* SIGTRAP (trap.c), for those who need it, show it, or leave. */
#ifndef SHUNT_LINUX_TRAPS_H
#define SHUNT_LINUX_TRAPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* trap.c: whether traps come to us. Update lock held. */
bool shunt_has_traps(void);
bool shunt_took_traps(void); /* ever */

/* trap.c: leave traps to who had them before; false: they came to us no more. Update lock held. */
bool shunt_give_traps_back(void);

/* trap.c: take traps before the first batch does. Update lock not held. */
void shunt_take_traps_early(void);

/* trap.c: sums over all CPUs. */
void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign);

/*
 * other_libshunts.c: from now on this copy of the library is not unmapped, as far as that can be
 * had. Update lock not held. Where it could be, the dynamic linker is asked: not in a signal
 * handler.
 */
void shunt_pin(void);

/* other_libshunts.c: whether it may be unmapped before the process ends. */
bool shunt_can_go(void);

/* trap.c: another libshunt's handler has been seen; told when the lock is free. */
extern _Atomic bool shunt_saw_others;

/* other_libshunts.c: the libshunts of this namespace, by their first entries. Update lock not held.
 */
#define SHUNT_OTHERS 64
struct shunt_others {
	uintptr_t entries[SHUNT_OTHERS];
	size_t n;
};

void shunt_list_others(struct shunt_others *others);

/* other_libshunts.c: say that there is another libshunt, once. Update lock not held. */
void shunt_tell_of_others(void);

#endif
