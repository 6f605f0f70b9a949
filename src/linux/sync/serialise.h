/* SPDX-License-Identifier: MIT */
/* Serialising instructions, a word to wait for, and for how long (serialise.c). */
#ifndef SHUNT_LINUX_SERIALISE_H
#define SHUNT_LINUX_SERIALISE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Execute a serialising instruction. Async-signal-safe. */
void shunt_serialise(void);

/*
 * Wait for @word, whose top bit is the waiter's mark, to become @value; at
 * most @ns nanoseconds (below a second), or until a signal. Whether it has.
 */
#define SHUNT_WAITED 0x80000000u
bool shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns);

#endif
