/* SPDX-License-Identifier: MIT */
/* Core sync by signals: a round of them (sync_signal.c). */
#ifndef SHUNT_LINUX_SYNC_SIGNAL_H
#define SHUNT_LINUX_SYNC_SIGNAL_H

/* A core sync by signals; 0 or -errno. Update lock held. */
int shunt_signal_sync(void);

#endif
