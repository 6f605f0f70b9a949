/* SPDX-License-Identifier: MIT */
/* Calls emulated from the site's own bytes (locked.c). */
#ifndef KERNEL_LOCKED_H
#define KERNEL_LOCKED_H

#include <stdint.h>

/* Calls that have been emulated so, and those that went elsewhere than by the key. */
struct locked_reads {
	_Atomic uint64_t calls, ahead;
};
extern struct locked_reads locked_reads;

/* The entry of #BP to install for it: idt_set(VEC_BP, trap_entry_bp_locked, 0). */
void trap_entry_bp_locked(void);

#endif
