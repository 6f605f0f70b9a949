/* SPDX-License-Identifier: MIT */
/* Core sync by signals: a round of them (sync_signal.c). */
#ifndef SHUNT_LINUX_SYNC_SIGNAL_H
#define SHUNT_LINUX_SYNC_SIGNAL_H

#include <stdbool.h>
#include <stdint.h>

/* A core sync by signals; 0 or -errno. Update lock held. */
int shunt_signal_sync(void);

/*
 * The same without a signal to threads of which @spares says so: their system call is not
 * interrupted. It is no core sync for them. Update lock held.
 */
int shunt_signal_those(bool (*spares)(int32_t tid));

#endif
