/* SPDX-License-Identifier: MIT */
/* What the entries of the handler of SIGTRAP call (trap_entry.S, sigtrap.c). */
#ifndef SHUNT_LINUX_TRAP_ENTRY_H
#define SHUNT_LINUX_TRAP_ENTRY_H

#include <signal.h>
#include <stdint.h>

/* The handler to go on with; NULL: the thread goes on. */
uintptr_t shunt_on_sigtrap(int sig, siginfo_t *info, void *context, unsigned entry);

#endif
