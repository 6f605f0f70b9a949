/* SPDX-License-Identifier: MIT */
/* Between libshunt and the agent alone: what a process that Shunt leaves is to look like. */
#ifndef SHUNT_LINUX_ENTRIES_H
#define SHUNT_LINUX_ENTRIES_H

#include <shunt/module.h>
#include <stddef.h>

/*
 * Give the text of entries that nobody traces, and of the dynamic linker, the bytes of their files
 * back; and close the library's descriptors where the program does not use it by itself. What is
 * traced afterwards is as ever. *left: how many entries are not as in their files now. 0, or -errno
 * and a message: then some text may have its bytes already. No lock held; not in a callback.
 */
SHUNT_API int shunt_entries_restore(size_t *left);

#endif
