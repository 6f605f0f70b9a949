/* SPDX-License-Identifier: MIT */
/* What the entries of the handler of SIGTRAP call (trap_entry.S, sigtrap.c). */
#ifndef SHUNT_LINUX_TRAP_ENTRY_H
#define SHUNT_LINUX_TRAP_ENTRY_H

#include <signal.h>
#include <stdint.h>

/*
 * The handler to go on with, and the thread is counted as passing; NULL: the thread goes on. @back:
 * where the entry's return address is.
 */
uintptr_t shunt_on_sigtrap(int sig, siginfo_t *info, void *context, unsigned entry,
			   uintptr_t *back);

/* Threads that go on with another's handler, and have not left this code yet. */
extern _Atomic uint32_t shunt_trap_passing;

#endif
