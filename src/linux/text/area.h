/* SPDX-License-Identifier: MIT */
/* What the kernel says is mapped at an address, now (area.c). Update lock held. */
#ifndef SHUNT_LINUX_AREA_H
#define SHUNT_LINUX_AREA_H

#include "linux/base/base.h"

struct shunt_area {
	struct shunt_range range; /* mapped alike */
	uint64_t offset;          /* of range.start in the file, bytes */
	uint64_t ino;             /* of the file; 0: of no file */
	unsigned major, minor;    /* of its file system, as the kernel lists it */
	int prot;                 /* PROT_* */
	bool is_private;
	bool is_listed; /* else file and offset are not known, and the range is one page */
};

/*
 * What is mapped at @addr. Returns 0, -EFAULT where nothing is, or another error where the
 * kernel cannot be asked; shunt_failed_call says what has failed.
 */
int shunt_area_find(uintptr_t addr, struct shunt_area *area);

/*
 * Whether the page at @addr is writable: 1 or 0, or an error as above. For whoever has changed
 * that: a filter may answer 0 to mprotect(), and nothing be done.
 */
int shunt_area_is_writable(uintptr_t addr);

/* Whether this thread can read the page at @addr. No fault is taken. */
bool shunt_area_is_readable(uintptr_t addr);

/* The same of @len bytes. */
bool shunt_area_are_readable(uintptr_t addr, size_t len);

/* Whether the page at @addr has a memory protection key other than 0. */
bool shunt_area_has_key(uintptr_t addr);

/*
 * Let this thread write to pages of any protection key; returns what is to be put back by
 * shunt_area_close_keys(). Between the two no code of others runs on this thread.
 */
uint32_t shunt_area_open_keys(void);
void shunt_area_close_keys(uint32_t rights);

#endif
