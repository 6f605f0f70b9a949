/* SPDX-License-Identifier: MIT */
/* That the process exits, or that this library is unloaded (exit.c). */
#ifndef SHUNT_LINUX_EXIT_H
#define SHUNT_LINUX_EXIT_H

#include <stdbool.h>

/* Whether the process is exiting, when destructors do not mean unloading. */
bool shunt_is_exiting(void);

/* This copy of the library is about to be unmapped, with the module it is in. */
bool shunt_is_unloading(void);

/* Have that noticed. Once the program has started; more than once is fine. */
void shunt_watch_exit(void);

/*
 * Have no module that has registered unmapped any more. Waits for the dynamic linker.
 * Update lock not held.
 */
void shunt_pin_modules(void);

#endif
