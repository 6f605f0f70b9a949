/* SPDX-License-Identifier: MIT */
/* Core sync by signals: the handler, and the signal (sync_handler.c). */
#ifndef SHUNT_LINUX_SYNC_HANDLER_H
#define SHUNT_LINUX_SYNC_HANDLER_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of the round, never 0; the handler reads it. */
extern _Atomic uint32_t shunt_sync_round;

/*
 * The signal; 0: none yet. And whether the program has left it to us.
 * Update lock held.
 */
extern int shunt_sync_signal;
bool shunt_has_sync_signal(void);

/* Choose one if there is none, or if the program has taken it; 0 or -errno. */
int shunt_choose_sync_signal(void);

/* What is sent with it to the thread of @slot. @info is all zero. Update lock held. */
struct shunt_sync_slot;
void shunt_sync_fill(siginfo_t *info, struct shunt_sync_slot *slot);

/*
 * Run the handlers of other libshunts whose signals are pending for this thread,
 * which blocks them while it updates. Update lock held.
 */
void shunt_answer_others(void);

#endif
