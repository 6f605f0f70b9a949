/* SPDX-License-Identifier: MIT */
/* The kernel's list of what is mapped in this process (proc_maps.c). Update lock held throughout.
 */
#ifndef SHUNT_LINUX_PROC_MAPS_H
#define SHUNT_LINUX_PROC_MAPS_H

#include "linux/base/base.h"

struct shunt_maps_line {
	struct shunt_range range;
	uint64_t offset, ino;  /* of the file */
	unsigned major, minor; /* of its file system */
	int prot;              /* PROT_* */
	bool is_private;
	char path[4096];
};

/*
 * The descriptor of /proc/self/maps, which is kept open from the first time on, or -errno. To
 * be read by pread(), or put back. And in a copy of the process: the parent's is closed, and one of
 * its own opened. And close it: this library is unloaded.
 */
int shunt_maps_open(void);
void shunt_maps_copied(void);
void shunt_maps_close(void);

/*
 * The line that has @addr, together with those that go on from it: a remap splits one mapping
 * into several. 0; -EFAULT where there is none, which has been seen; or another error, of what
 * shunt_failed_call names: it is not known. By pread(); where that is refused by read(), and the
 * descriptor is put back to where it was.
 */
int shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line);

/*
 * Whether the mapping at @addr has the flag of this name (two letters) among the VmFlags of
 * /proc/self/smaps, which is opened for the moment: 1 or 0, and *range is that mapping's, not
 * together with others; or -EFAULT where there is none, -ENOENT where this kernel does not list
 * them, or another error: it is not known.
 */
int shunt_maps_has_flag(uintptr_t addr, const char *flag, struct shunt_range *range);

#endif
