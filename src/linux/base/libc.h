/* SPDX-License-Identifier: MIT */
/*
 * What not each C library has, nor each version of glibc: weak, so that whoever calls it looks first
 * whether it is there. Declared here where <dlfcn.h>, <link.h> and <string.h> do not.
 */
#ifndef SHUNT_LINUX_BASE_LIBC_H
#define SHUNT_LINUX_BASE_LIBC_H

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#ifdef __GLIBC__
#define SHUNT_GLIBC_HAS(major, minor) __GLIBC_PREREQ(major, minor)
#else
#define SHUNT_GLIBC_HAS(major, minor) 0
typedef long Lmid_t;
#define RTLD_DI_LMID 1
void *dlmopen(Lmid_t list, const char *file, int flags);
void *dlvsym(void *handle, const char *name, const char *version);
#endif

#if !SHUNT_GLIBC_HAS(2, 35)
/* As much of glibc's as is looked at. */
struct dl_find_object {
	unsigned long long dlfo_flags;
	void *dlfo_map_start, *dlfo_map_end;
	struct link_map *dlfo_link_map;
	void *dlfo_eh_frame;
	unsigned long long reserved[7];
};
int _dl_find_object(void *address, struct dl_find_object *result);
#endif

#if !SHUNT_GLIBC_HAS(2, 32)
const char *strerrordesc_np(int error);
#endif

#pragma weak dlmopen
#pragma weak dlvsym
#pragma weak _dl_find_object /* takes no lock, which dladdr() and dl_iterate_phdr() do */
#pragma weak strerrordesc_np /* strerror() translates, and allocates for that */

#endif
