/* SPDX-License-Identifier: MIT */
/* Of the remap (remap.c): what a test may set. */
#ifndef SHUNT_LINUX_REMAP_H
#define SHUNT_LINUX_REMAP_H

/*
 * Whether the CPU flushes others' TLBs by a broadcast: 1 or -1; 0: not asked yet. Update
 * lock.
 */
extern int shunt_remap_broadcast;

#endif
