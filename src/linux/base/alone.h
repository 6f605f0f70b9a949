/* SPDX-License-Identifier: MIT */
/* Whether nobody else runs this text (alone.c). */
#ifndef SHUNT_LINUX_ALONE_H
#define SHUNT_LINUX_ALONE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a seccomp filter is in force. Async-signal-safe. */
bool shunt_is_filtered(void);

/*
 * Whether nobody else runs this text. *why_not: why that is not known, where there is more to say
 * than that there are threads; else NULL. Update lock held.
 */
bool shunt_ask_if_alone(const char **why_not);
bool shunt_is_alone(void);

/*
 * A batch of pokes begins, or ends: in between the kernel is asked once. Who is alone, with signals
 * blocked, stays so; and where the answer was no, a no is right too. Update lock held.
 */
void shunt_alone_begin(void);
void shunt_alone_end(void);

/* The number of this batch, where it is known that nobody else runs; else 0. Update lock held. */
uint64_t shunt_alone_batch(void);

#endif
