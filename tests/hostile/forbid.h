/* SPDX-License-Identifier: MIT */
/* Ways that a program forbids itself, as sandboxes and hardened programs do. */
#ifndef SHUNT_TESTS_HOSTILE_FORBID_H
#define SHUNT_TESTS_HOSTILE_FORBID_H

#define NOBODY 65534

enum {
	FORBID_MDWE = 1 << 0,       /* prctl(PR_SET_MDWE), Linux 6.3 */
	FORBID_PROTECT = 1 << 1,    /* seccomp: mprotect() to executable: EPERM */
	FORBID_MEMBARRIER = 1 << 2, /* seccomp: membarrier(): EPERM */
	FORBID_OPEN = 1 << 3,       /* seccomp: open(), openat(), openat2(): EPERM */
	FORBID_PWRITE =
		1 << 4, /* seccomp: pwrite(): EPERM, as a 6.12 kernel may for /proc/self/mem */
	FORBID_REMAP = 1 << 5,   /* seccomp: mremap(): EPERM */
	FORBID_SIGNALS = 1 << 6, /* seccomp: rt_tgsigqueueinfo(): EPERM */
	FORBID_MAP = 1 << 7,     /* seccomp: mmap(): ENOMEM */
	FORBID_PROC = 1 << 8,    /* an empty file system over /proc */
	FORBID_ROOT = 1 << 9,    /* chroot() to an empty directory */
	FORBID_USER = 1 << 10,   /* user nobody, no capability */
	FORBID_MEMORY = 1 << 11, /* seccomp: mremap(): ENOMEM, as at the limit of mappings */
	FORBID_ALL = FORBID_PROTECT | FORBID_MEMBARRIER | FORBID_OPEN | FORBID_PWRITE |
		     FORBID_REMAP | FORBID_SIGNALS,
};

/*
 * Forbid them, for this process, its threads to be, and what it executes. Returns NULL, or what
 * cannot be had here. And whether they are: NULL, or what is still open.
 */
const char *forbid(unsigned what);
const char *still_open(unsigned what);

#endif
