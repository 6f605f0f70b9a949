/* SPDX-License-Identifier: MIT */
/* SIGTRAP and other libshunts, for the rooms above: to install our handler, to show it, to unload.
 */
#ifndef SHUNT_LINUX_SIGTRAP_H
#define SHUNT_LINUX_SIGTRAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sigtrap.c: whether traps come to us. Update lock held. */
bool shunt_traps_reach_us(void);
bool shunt_traps_reached_us(void); /* ever */

/*
 * sigtrap.c: put the handler back that was there before ours; false: ours was not the first any
 * more. Update lock held.
 */
bool shunt_remove_handler(void);

/* sigtrap.c: wait, not for ever, until no thread is on its way from our handler to another's. */
void shunt_await_passing(void);

/* sigtrap.c: install our handler before the first batch does. Update lock not held. */
void shunt_install_handler_early(void);

/* sigtrap.c: sums over all CPUs. */
void shunt_trap_counts(uint64_t *emulated, uint64_t *late, uint64_t *foreign);

/*
 * other_libshunts.c: from now on this copy of the library is not unmapped. 0; or -EAGAIN, with
 * shunt_failed_call, where that cannot be had. Update lock not held. Where it could be unmapped,
 * the dynamic linker is asked: not in a signal handler.
 */
int shunt_pin(void);

/* other_libshunts.c: whether it may be unmapped before the process ends. */
bool shunt_may_be_unloaded(void);

/* sigtrap.c: another libshunt's handler has been seen; told when the lock is free. */
extern _Atomic bool shunt_others_seen;

/* other_libshunts.c: the libshunts of this namespace, by their first entries. Update lock not held.
 */
#define SHUNT_OTHERS 64
struct shunt_others {
	uintptr_t entries[SHUNT_OTHERS];
	size_t n;
};

void shunt_list_others(struct shunt_others *others);

/* other_libshunts.c: say that there is another libshunt, once. Update lock not held. */
void shunt_report_others(void);

#endif
