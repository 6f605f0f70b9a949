/* SPDX-License-Identifier: MIT */
/* Core sync, for the rooms above: to prepare it, to show it, to unload it. */
#ifndef SHUNT_LINUX_SYNC_H
#define SHUNT_LINUX_SYNC_H

#include <stdbool.h>

/* core_sync.c: make ready for the first core sync. Update lock held. */
void shunt_sync_prepare(void);

/* core_sync.c: the method in use, for shunt_get_ways(). */
const char *shunt_sync_method(void);

/* sync_handler.c: whether there is a signal for the core sync. Update lock held. */
bool shunt_has_chosen_signal(void);

/*
 * own_thread.c, for libshunt-trace and libshunt-agent: the calling thread, which blocks the
 * program's signals, leaves that of the core sync open, and one is chosen if there is none, so that
 * updates need not fail for its sake where they sync by signals. @open: what this returned last, 0
 * at first; to be called now and then, because the program may take the signal. Any thread; the
 * update lock not held.
 */
__attribute__((visibility("default"))) int shunt_open_to_sync(int open);

/* sync_handler.c: nobody is to come to the handler any more. Update lock held. */
void shunt_drop_sync_signal(void);

/*
 * sync_signal.c: wait, where it can be seen, until no thread is in a handler of SIGTRAP or of the
 * signal that it had entered, or was about to, before. Update lock held.
 */
void shunt_signal_drain(void);

#endif
