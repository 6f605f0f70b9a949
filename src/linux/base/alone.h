/* SPDX-License-Identifier: MIT */
/* Whether nobody else runs this text (alone.c). */
#ifndef SHUNT_LINUX_ALONE_H
#define SHUNT_LINUX_ALONE_H

#include <stdbool.h>

/* Whether a seccomp filter is in force. Async-signal-safe. */
bool shunt_is_filtered(void);

/*
 * Whether nobody else runs this text. *why_not: why that is not known, where there is more to say
 * than that there are threads; else NULL. Update lock held.
 */
bool shunt_ask_if_alone(const char **why_not);
bool shunt_is_alone(void);

/*
 * That is so (@alone) until the batch ends that is poked because of it: the kernel is not asked
 * again. Update lock held.
 */
void shunt_stays_alone(bool alone);

#endif
