/* SPDX-License-Identifier: MIT */
/* Ways that a program shuts for itself, as sandboxes and hardened programs do. */
#ifndef SHUNT_TESTS_HOSTILE_SHUT_H
#define SHUNT_TESTS_HOSTILE_SHUT_H

#define NOBODY 65534

enum {
	SHUT_MDWE = 1 << 0,       /* prctl(PR_SET_MDWE), Linux 6.3 */
	SHUT_PROTECT = 1 << 1,    /* seccomp: mprotect() to executable: EPERM */
	SHUT_MEMBARRIER = 1 << 2, /* seccomp: membarrier(): EPERM */
	SHUT_OPEN = 1 << 3,       /* seccomp: open(), openat(), openat2(): EPERM */
	SHUT_PWRITE =
		1 << 4,      /* seccomp: pwrite(): EPERM, as a 6.12 kernel may for /proc/self/mem */
	SHUT_REMAP = 1 << 5, /* seccomp: mremap(): EPERM */
	SHUT_SIGNALS = 1 << 6, /* seccomp: rt_tgsigqueueinfo(): EPERM */
	SHUT_MAP = 1 << 7,     /* seccomp: mmap(): ENOMEM */
	SHUT_PROC = 1 << 8,    /* an empty file system over /proc */
	SHUT_ROOT = 1 << 9,    /* chroot() to an empty directory */
	SHUT_USER = 1 << 10,   /* user nobody, no capability */
	SHUT_MEMORY = 1 << 11, /* seccomp: mremap(): ENOMEM, as at the limit of mappings */
	SHUT_ALL = SHUT_PROTECT | SHUT_MEMBARRIER | SHUT_OPEN | SHUT_PWRITE | SHUT_REMAP |
		   SHUT_SIGNALS,
};

/*
 * Shut them, for this process, its threads to be, and what it executes. Returns NULL, or what
 * cannot be had here. And whether they are: NULL, or what is still open.
 */
const char *shut(unsigned what);
const char *still_open(unsigned what);

#endif
