/* SPDX-License-Identifier: MIT */
/*
 * What tests may ask of the ring-0 port (port.c) beyond <shunt/port.h>: to look on
 * while it pokes, and to leave something out, as a negative control.
 */
#ifndef KERNEL_PORT_H
#define KERNEL_PORT_H

#include <stddef.h>

#include "trap.h"

/* Set while no update runs. All false and NULL at boot. */
struct port_test {
	/* Write byte by byte, and let other CPUs run (pause) behind each. */
	bool stepwise;
	/* Leave out: the int3 of a poke; its core sync of this number (1 to 3; 0: none). */
	bool no_int3;
	unsigned no_sync;
	/* Do not let the shadow stack follow what a trap emulates. */
	bool no_shadow;
	/* Called behind core sync number @nr of a poke, on the updater's CPU. */
	void (*on_sync)(unsigned nr);
	/*
	 * Called by a #BP that is not Shunt's; true: resume with @frame as it is now.
	 * NULL, or false: a panic.
	 */
	bool (*on_foreign)(struct trapframe *frame);
};
extern struct port_test port_test;

/* Traps of all CPUs since boot, by enum shunt_trap. */
struct port_traps {
	uint64_t foreign, emulated, late;
	uint64_t stray; /* taken when no poke was going on: cannot be behind the last sync */
};
struct port_traps port_traps(void);

/* Write to text through the alias. One store where @len is 1, 2, 4 or 8. Any context. */
void port_write_text(void *addr, const void *bytes, size_t len);

/* Core sync, outside a poke: every CPU executes a serialising instruction. */
void port_sync_cores(void);
/* Answer the core sync that waits for this CPU, if one does. Interrupts off. */
void port_answer_sync(void);

/* At boot: before other CPUs start; and behind, the site table (sites.c). */
void port_init(void);
void sites_init(void);

#endif
