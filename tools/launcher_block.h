/* SPDX-License-Identifier: MIT */
/*
 * What this program and the launcher, a thread of another process, tell each other: offsets in the
 * memory that is mapped there for it, of C and of assembly.
 */
#ifndef SHUNT_TOOLS_LAUNCHER_BLOCK_H
#define SHUNT_TOOLS_LAUNCHER_BLOCK_H

#define LAUNCHER_COMMAND                                                         \
	0 /* 32 bits, of this program: one more for each call that is to be made \
	   */
#define LAUNCHER_DONE      4 /* 32 bits, of the launcher: the last one that has returned */
#define LAUNCHER_LEAVE     8 /* 32 bits, of this program, the last that it writes: unmap, and end */
#define LAUNCHER_ENDED     12 /* 32 bits, of the launcher: it has waited for too long, and ends */
#define LAUNCHER_FUNCTION  16
#define LAUNCHER_ARGUMENTS 24 /* six */
#define LAUNCHER_RESULT    72
#define LAUNCHER_MUNMAP    80 /* the function of libc */
#define LAUNCHER_BASE      88 /* what is to be unmapped */
#define LAUNCHER_SIZE      96
#define LAUNCHER_PAUSE     104 /* struct timespec: between two looks at the command */
#define LAUNCHER_SIGNALS   136 /* the mask of glibc's own, for setuid() in all threads */
#define LAUNCHER_NAME      120 /* the thread's */

#define LAUNCHER_PAUSES 20000 /* until it has waited for too long, two seconds */

#endif
