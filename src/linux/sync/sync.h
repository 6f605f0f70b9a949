/* SPDX-License-Identifier: MIT */
/*
 * Core sync, between its two ways: sync.c chooses and has membarrier, sync_signal.c
 * has the signals, tasks.c tells which threads there are.
 */
#ifndef SHUNT_LINUX_SYNC_H
#define SHUNT_LINUX_SYNC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sync_signal.c: a core sync by signals; 0 or -errno. Update lock held. */
int shunt_signal_sync(void);

#endif
